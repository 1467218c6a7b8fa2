import { randomUUID, randomUUIDv7 } from 'node:crypto'
import { and, eq, isNull, or, sql } from 'drizzle-orm'
import { type Db, prepared } from './client.ts'
import { upstreamAccounts } from './schema.ts'

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

export const isServing = (userId: string) => and(eq(upstreamAccounts.userId, userId), upstreamAccounts.serves)

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

export type Minted = Pick<AccountRow, 'sealedToken' | 'tokenExpiresAt' | 'upstreamUserId'>

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

export const isGeneration = (id: string, generation: number) =>
  and(eq(upstreamAccounts.id, id), eq(upstreamAccounts.generation, generation))

/** What a new token changes besides. */
export const renewed = {
  generation: sql`${upstreamAccounts.generation} + 1`,
  state: 'ready',
  retryAt: null,
  mintingUntil: null,
  updatedAt: sql`now()`,
} as const

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
