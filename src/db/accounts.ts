import { and, eq, isNull, lt, or, sql } from 'drizzle-orm'
import type { Db } from './client.ts'
import { upstreamAccounts } from './schema.ts'

export type AccountRow = typeof upstreamAccounts.$inferSelect

export async function findAccount(db: Db, userId: string): Promise<AccountRow | undefined> {
  const [row] = await db.select().from(upstreamAccounts).where(eq(upstreamAccounts.userId, userId))
  return row
}

/** The user's account, made with a client id of its own when there is none yet. */
export async function ensureAccount(db: Db, userId: string, clientId: string): Promise<AccountRow> {
  await db.insert(upstreamAccounts).values({ userId, kind: 'anonymous', clientId }).onConflictDoNothing()
  return (await findAccount(db, userId))!
}

/** True for the one caller that may ask for the token after `generation`; the claim ends by itself after 40 s. */
export async function claimMint(db: Db, userId: string, generation: number): Promise<boolean> {
  const rows = await db
    .update(upstreamAccounts)
    .set({
      mintingUntil: sql`now() + interval '40 seconds'`,
      mints: sql`${upstreamAccounts.mints} + 1`,
      updatedAt: sql`now()`,
    })
    .where(
      and(
        eq(upstreamAccounts.userId, userId),
        eq(upstreamAccounts.generation, generation),
        or(isNull(upstreamAccounts.mintingUntil), lt(upstreamAccounts.mintingUntil, sql`now()`)),
      ),
    )
    .returning({ userId: upstreamAccounts.userId })
  return rows.length > 0
}

export async function storeToken(
  db: Db,
  userId: string,
  generation: number,
  token: { sealedToken: string; tokenExpiresAt: Date | null; upstreamUserId: string | null },
): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({
      ...token,
      generation: generation + 1,
      state: 'ready',
      retryAt: null,
      mintingUntil: null,
      updatedAt: sql`now()`,
    })
    .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.generation, generation)))
}

export async function recordAccountTrouble(
  db: Db,
  userId: string,
  generation: number,
  trouble: { state?: 'reauth_required' | 'rate_limited'; retryAt?: Date },
): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ ...trouble, mintingUntil: null, updatedAt: sql`now()` })
    .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.generation, generation)))
}

/** The token that was refused is taken again. */
export async function recordAccountReady(db: Db, userId: string, generation: number): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ state: 'ready', updatedAt: sql`now()` })
    .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.generation, generation)))
}

/** The upstream's name for the user, learnt from a session it made; it stands in registration links. */
export async function recordUpstreamUserId(db: Db, userId: string, upstreamUserId: string): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ upstreamUserId })
    .where(and(eq(upstreamAccounts.userId, userId), isNull(upstreamAccounts.upstreamUserId)))
}

/** Makes another user the owner of an account. Its token is sealed for that one already. */
export async function giveAccount(
  db: Db,
  fromUserId: string,
  to: { userId: string; sealedToken: string | null },
): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ ...to, mintingUntil: null, updatedAt: sql`now()` })
    .where(eq(upstreamAccounts.userId, fromUserId))
}
