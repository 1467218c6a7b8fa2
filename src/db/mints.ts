import { and, count, desc, eq, gt, isNull, lt, ne, or, sql } from 'drizzle-orm'
import type { AccountRow } from './accounts.ts'
import type { Db } from './client.ts'
import { mintLimit, mints, upstreamAccounts } from './schema.ts'

/** Serialises the count of the budget over all instances. */
const BUDGET_LOCK = 7_233_531_104_982_003n
const WEEK_MS = 7 * 24 * 3_600_000
const WEEK = sql`now() - interval '7 days'`

/** What came of a wish to ask for a token: the id of the mint, a time from which to ask again, or another's turn. */
export type MintClaim = { id: string } | { spentUntil: Date } | null

/**
 * For the one caller that may ask for the account's next token: writes down that it does, within the budget of
 * `perWeek`, to which a `renewal` is not held: the backend counts it for its client id. The claim ends by itself
 * after 40 s; null when another caller holds it.
 */
export function claimMint(
  db: Db,
  { id, generation }: Pick<AccountRow, 'id' | 'generation'>,
  budget: { perWeek: number; renewal: boolean },
): Promise<MintClaim> {
  return db.transaction(async tx => {
    const [account] = await tx
      .select({ userId: upstreamAccounts.userId, clientId: upstreamAccounts.clientId })
      .from(upstreamAccounts)
      .where(
        and(
          eq(upstreamAccounts.id, id),
          eq(upstreamAccounts.generation, generation),
          or(isNull(upstreamAccounts.mintingUntil), lt(upstreamAccounts.mintingUntil, sql`now()`)),
        ),
      )
      .for('update')
    if (!account) return null
    if (!budget.renewal) {
      await tx.execute(sql`select pg_advisory_xact_lock(${BUDGET_LOCK})`)
      const spentUntil = await budgetSpentUntil(tx, budget.perWeek)
      if (spentUntil) return { spentUntil }
    }
    await tx
      .update(upstreamAccounts)
      .set({
        mintingUntil: sql`now() + interval '40 seconds'`,
        mints: sql`${upstreamAccounts.mints} + 1`,
        updatedAt: sql`now()`,
      })
      .where(eq(upstreamAccounts.id, id))
    const [mint] = await tx
      .insert(mints)
      .values({ ...account, outcome: 'unknown' })
      .returning({ id: mints.id })
    return mint!
  })
}

/** Tells operators, in `ops.mint_budget`, the budget that this instance is held to. */
export async function declareBudget(db: Db, perWeek: number): Promise<void> {
  await db
    .insert(mintLimit)
    .values({ perWeek })
    .onConflictDoUpdate({ target: mintLimit.one, set: { perWeek } })
}

export async function recordMint(db: Db, id: string, outcome: 'delivered' | 'refused'): Promise<void> {
  await db.update(mints).set({ outcome }).where(eq(mints.id, id))
}

/** How many mints of a client in the last 7 days nobody knows the outcome of. */
export async function countUnknownMints(db: Db, clientId: string): Promise<number> {
  const [row] = await db
    .select({ n: count() })
    .from(mints)
    .where(and(eq(mints.clientId, clientId), eq(mints.outcome, 'unknown'), gt(mints.at, WEEK)))
  return row!.n
}

/** When the budget of `perWeek` mints in 7 days has room again; null when it has now. A mint that was refused is none. */
export async function budgetSpentUntil(db: Db, perWeek: number): Promise<Date | null> {
  if (perWeek === 0) return new Date(Date.now() + WEEK_MS)
  const [oldest] = await db
    .select({ at: mints.at })
    .from(mints)
    .where(and(ne(mints.outcome, 'refused'), gt(mints.at, WEEK)))
    .orderBy(desc(mints.at))
    .limit(1)
    .offset(perWeek - 1)
  return oldest ? new Date(oldest.at.getTime() + WEEK_MS) : null
}
