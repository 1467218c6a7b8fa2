import { randomUUID, randomUUIDv7 } from 'node:crypto'
import { and, count, eq, gt, isNotNull, isNull, ne, notExists, or, sql } from 'drizzle-orm'
import { type Db, prepared } from './client.ts'
import { projects, upstreamAccounts, users } from './schema.ts'

export type AccountRow = typeof upstreamAccounts.$inferSelect

/** Which account of a user is meant; null: the shared one, absent: the one that serves the user. */
export interface Holder {
  userId: string
  accountId?: string | null
}

/** The account that serves the user. */
export async function findAccount(db: Db, userId: string): Promise<AccountRow | undefined> {
  const [row] = await db.select().from(upstreamAccounts).where(isServing(userId))
  return row
}

export async function loadAccount(db: Db, id: string): Promise<AccountRow | undefined> {
  const [row] = await db.select().from(upstreamAccounts).where(eq(upstreamAccounts.id, id))
  return row
}

const isServing = (userId: string) => and(eq(upstreamAccounts.userId, userId), upstreamAccounts.serves)

const accountsMeant = prepared(db =>
  db
    .select()
    .from(upstreamAccounts)
    .where(
      or(
        sql`${upstreamAccounts.id} = any(${sql.placeholder('ids')}::uuid[])`,
        sql`${upstreamAccounts.serves} and ${upstreamAccounts.userId} = any(${sql.placeholder('userIds')}::uuid[])`,
      ),
    )
    .prepare('find_accounts'),
)

/** For each as it was asked, the account; one that is another user's is not found. */
export async function findAccounts(db: Db, asked: Holder[]): Promise<(AccountRow | undefined)[]> {
  const rows = await accountsMeant(db).execute({
    ids: asked.flatMap(({ accountId }) => accountId ?? []),
    userIds: asked.flatMap(({ userId, accountId }) => (accountId ? [] : userId)),
  })
  const serving = new Map(rows.filter(row => row.serves).map(row => [row.userId, row]))
  const byId = new Map(rows.map(row => [row.id, row]))
  return asked.map(({ userId, accountId }) => {
    if (!accountId) return serving.get(userId)
    const row = byId.get(accountId)
    return row?.userId === userId ? row : undefined
  })
}

/** The account that serves the user, made with a client id of its own when there is none yet. */
export async function ensureAccount(db: Db, userId: string): Promise<AccountRow> {
  await db
    .insert(upstreamAccounts)
    .values({ id: randomUUIDv7(), userId, kind: 'anonymous', clientId: randomUUID() })
    .onConflictDoNothing()
  return (await findAccount(db, userId))!
}

type Minted = Pick<AccountRow, 'sealedToken' | 'tokenExpiresAt' | 'upstreamUserId'>

/** The token after the account's generation, sealed for its user; null when it was not stored. */
export async function storeToken(db: Db, account: AccountRow, token: Minted): Promise<AccountRow | null> {
  const { id, userId, generation } = account
  const [row] = await db
    .update(upstreamAccounts)
    .set({ ...token, ...renewed })
    .where(and(eq(upstreamAccounts.userId, userId), isGeneration(id, generation)))
    .returning()
  return row ?? null
}

/** The same for a token that turned out to be of a new account: only the user can bring one for the old one. */
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

const isGeneration = (id: string, generation: number) =>
  and(eq(upstreamAccounts.id, id), eq(upstreamAccounts.generation, generation))

const renewed = {
  generation: sql`${upstreamAccounts.generation} + 1`,
  state: 'ready',
  retryAt: null,
  mintingUntil: null,
  updatedAt: sql`now()`,
} as const

/** An account that is the user's own and that we have no token for. */
const forgotten = {
  ...renewed,
  kind: 'linked',
  serves: false,
  sealedToken: null,
  tokenExpiresAt: null,
  state: 'reauth_required',
} as const

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

export async function recordAccountTrouble(
  db: Db,
  { id, generation }: Pick<AccountRow, 'id' | 'generation'>,
  trouble: { state?: 'reauth_required' | 'rate_limited'; retryAt?: Date },
): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ ...trouble, mintingUntil: null, updatedAt: sql`now()` })
    .where(isGeneration(id, generation))
}

/** The token that was refused is taken again. */
export async function recordAccountReady(
  db: Db,
  { id, generation }: Pick<AccountRow, 'id' | 'generation'>,
): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ state: 'ready', updatedAt: sql`now()` })
    .where(isGeneration(id, generation))
}

/** The upstream's name for the user, learnt from a session it made; it stands in registration links. */
export async function recordUpstreamUserId(db: Db, id: string, upstreamUserId: string): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ upstreamUserId })
    .where(
      and(
        eq(upstreamAccounts.id, id),
        eq(upstreamAccounts.kind, 'anonymous'),
        isNull(upstreamAccounts.upstreamUserId),
      ),
    )
}

const keyId = sql<string>`split_part(${upstreamAccounts.sealedToken}, '.', 1)`

/** How many tokens each key seals. */
export async function countSealed(db: Db): Promise<Map<string, number>> {
  const rows = await db
    .select({ keyId, n: count() })
    .from(upstreamAccounts)
    .where(isNotNull(upstreamAccounts.sealedToken))
    .groupBy(keyId)
  return new Map(rows.map(row => [row.keyId, row.n]))
}

export interface SealedRow {
  id: string
  userId: string
  sealedToken: string
}

/** Tokens sealed with another key than this one, in the order of their accounts after `after`. */
export async function sealedOtherwise(
  db: Db,
  sealingKey: string,
  after: string | undefined,
  limit: number,
): Promise<SealedRow[]> {
  const { id, userId, sealedToken } = upstreamAccounts
  const rows = await db
    .select({ id, userId, sealedToken })
    .from(upstreamAccounts)
    .where(and(isNotNull(sealedToken), ne(keyId, sealingKey), after ? gt(id, after) : undefined))
    .orderBy(id)
    .limit(limit)
  return rows.map(row => ({ ...row, sealedToken: row.sealedToken! }))
}

/** The same token under another seal; false when a new one has taken its place meanwhile, which stays. */
export async function replaceSeal(db: Db, { id, sealedToken }: SealedRow, to: string): Promise<boolean> {
  const rows = await db
    .update(upstreamAccounts)
    .set({ sealedToken: to, updatedAt: sql`now()` })
    .where(and(eq(upstreamAccounts.id, id), eq(upstreamAccounts.sealedToken, sealedToken)))
    .returning({ id: upstreamAccounts.id })
  return rows.length > 0
}

export function listAccounts(db: Db, userId: string): Promise<AccountRow[]> {
  return db.select().from(upstreamAccounts).where(eq(upstreamAccounts.userId, userId))
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
