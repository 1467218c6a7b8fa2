import { randomUUID, randomUUIDv7 } from 'node:crypto'
import { and, eq, notExists, sql } from 'drizzle-orm'
import {
  type AccountRow,
  ensureAccount,
  findAccount,
  isGeneration,
  isServing,
  type Minted,
  renewed,
} from './accounts.ts'
import type { Db } from './client.ts'
import { projects, upstreamAccounts, users } from './schema.ts'

/** A few sessions of each of the user's accounts, the newest first: they tell one account upstream from another. */
export async function newestSessions(
  db: Db,
  userId: string,
  perAccount: number,
): Promise<{ accountId: string; sessionId: string }[]> {
  const { rows } = await db.execute<{ accountId: string; sessionId: string }>(sql`
    select account_id as "accountId", session_id as "sessionId" from (
      select account_id, session_id, row_number() over (partition by account_id order by last_activity_at desc) as n
      from projects where user_id = ${userId} and account_id is not null and session_id is not null
    ) as sessions where n <= ${perAccount} order by n`)
  return rows
}

/**
 * Lets the user's own token serve: as the token of `accountId`, or of an account that is made for it. What served
 * before is kept, with the projects that live there.
 */
export async function linkToken(
  db: Db,
  userId: string,
  sealedToken: string,
  accountId: string | null,
): Promise<void> {
  // With one that serves, nobody makes another meanwhile.
  await ensureAccount(db, userId)
  await db.transaction(async tx => {
    await lockAccounts(tx, userId)
    await tx.update(upstreamAccounts).set({ serves: false, updatedAt: sql`now()` }).where(isServing(userId))
    const linked = { kind: 'linked', serves: true, sealedToken, tokenExpiresAt: null } as const
    const known = and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.id, accountId ?? NO_ID))
    const { rowCount } = await tx
      .update(upstreamAccounts)
      .set({ ...linked, ...renewed })
      .where(known)
    if (rowCount === 0)
      await tx.insert(upstreamAccounts).values({
        id: randomUUIDv7(),
        userId,
        clientId: randomUUID(),
        ...linked,
        generation: 1,
        state: 'ready',
      })
  })
}

const NO_ID = '00000000-0000-0000-0000-000000000000'

/** Forgets every token that the user has linked, and lets an anonymous account serve again, if there is one. */
export async function unlinkTokens(db: Db, userId: string): Promise<void> {
  await db.transaction(async tx => {
    await lockAccounts(tx, userId)
    await tx
      .update(upstreamAccounts)
      .set(forgotten)
      .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.kind, 'linked')))
    if (await findAccount(tx, userId)) return
    const [anonymous] = await tx
      .select({ id: upstreamAccounts.id })
      .from(upstreamAccounts)
      .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.kind, 'anonymous')))
      .orderBy(upstreamAccounts.createdAt)
      .limit(1)
    if (anonymous)
      await tx.update(upstreamAccounts).set({ serves: true }).where(eq(upstreamAccounts.id, anonymous.id))
  })
}

/**
 * Stores a token that is the next one of `account` by its client id, but turned out to be of a new account upstream,
 * in an account of its own. For the old one only the user can bring a token. Null when it was not stored.
 */
export function storeTokenOfAnother(db: Db, account: AccountRow, token: Minted): Promise<AccountRow | null> {
  const { id, userId, clientId, generation } = account
  return db.transaction(async tx => {
    await lockAccounts(tx, userId)
    const same = and(eq(upstreamAccounts.userId, userId), isGeneration(id, generation))
    const { serves } = upstreamAccounts
    const [before] = await tx.select({ serves }).from(upstreamAccounts).where(same).for('update')
    if (!before) return null
    await tx.update(upstreamAccounts).set(forgotten).where(same)
    const another = { id: randomUUIDv7(), userId, clientId, kind: 'anonymous', generation: 1 } as const
    const [row] = await tx
      .insert(upstreamAccounts)
      .values({ ...another, ...before, ...token, state: 'ready' })
      .returning()
    return row!
  })
}

/** An account that is the user's own and that we have no token for. */
const forgotten = {
  ...renewed,
  kind: 'linked',
  serves: false,
  sealedToken: null,
  tokenExpiresAt: null,
  state: 'reauth_required',
} as const

/** Which account serves the user is changed by one at a time. */
async function lockAccounts(tx: Db, userId: string): Promise<void> {
  await tx.select({ id: users.id }).from(users).where(eq(users.id, userId)).for('no key update')
}

/** Removes linked accounts that have been out of use for a day and that no project lives in. */
export async function sweepAccounts(db: Db): Promise<void> {
  await db
    .delete(upstreamAccounts)
    .where(
      and(
        eq(upstreamAccounts.kind, 'linked'),
        sql`not ${upstreamAccounts.serves} and ${upstreamAccounts.updatedAt} < now() - interval '1 day'`,
        notExists(
          db.select({ id: projects.id }).from(projects).where(eq(projects.accountId, upstreamAccounts.id)),
        ),
      ),
    )
}

/** Every account of the user, the oldest first. */
export function listAccounts(db: Db, userId: string): Promise<AccountRow[]> {
  return db
    .select()
    .from(upstreamAccounts)
    .where(eq(upstreamAccounts.userId, userId))
    .orderBy(upstreamAccounts.id)
}

/** Makes another user the owner of an account. Its token is sealed for that one already. */
export async function giveAccount(
  db: Db,
  id: string,
  to: { userId: string; sealedToken: string | null; serves: boolean },
): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ ...to, mintingUntil: null, updatedAt: sql`now()` })
    .where(eq(upstreamAccounts.id, id))
}
