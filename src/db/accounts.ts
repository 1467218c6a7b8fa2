import { and, count, eq, gt, isNotNull, isNull, ne, sql } from 'drizzle-orm'
import { type Db, prepared } from './client.ts'
import { upstreamAccounts } from './schema.ts'

export type AccountRow = typeof upstreamAccounts.$inferSelect

export async function findAccount(db: Db, userId: string): Promise<AccountRow | undefined> {
  const [row] = await db.select().from(upstreamAccounts).where(eq(upstreamAccounts.userId, userId))
  return row
}

const accountsOf = prepared(db =>
  db
    .select()
    .from(upstreamAccounts)
    .where(sql`${upstreamAccounts.userId} = any(${sql.placeholder('userIds')}::uuid[])`)
    .prepare('find_accounts'),
)

/** The accounts of many users, in their order. */
export async function findAccounts(db: Db, userIds: string[]): Promise<(AccountRow | undefined)[]> {
  const rows = await accountsOf(db).execute({ userIds })
  const byUser = new Map(rows.map(row => [row.userId, row]))
  return userIds.map(userId => byUser.get(userId))
}

/** The user's account, made with a client id of its own when there is none yet. */
export async function ensureAccount(db: Db, userId: string, clientId: string): Promise<AccountRow> {
  await db.insert(upstreamAccounts).values({ userId, kind: 'anonymous', clientId }).onConflictDoNothing()
  return (await findAccount(db, userId))!
}

export async function storeToken(
  db: Db,
  userId: string,
  generation: number,
  token: { sealedToken: string; tokenExpiresAt: Date | null; upstreamUserId: string | null },
): Promise<boolean> {
  const rows = await db
    .update(upstreamAccounts)
    .set({ ...token, ...renewed })
    .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.generation, generation)))
    .returning({ userId: upstreamAccounts.userId })
  return rows.length > 0
}

const renewed = {
  generation: sql`${upstreamAccounts.generation} + 1`,
  state: 'ready',
  retryAt: null,
  mintingUntil: null,
  updatedAt: sql`now()`,
} as const

/** An anonymous token that came after the user had linked an account: it is kept, but not used. */
export async function keepGuestToken(
  db: Db,
  userId: string,
  token: { sealedToken: string; tokenExpiresAt: Date | null },
): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({ guestSealedToken: token.sealedToken, guestTokenExpiresAt: token.tokenExpiresAt })
    .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.kind, 'linked')))
}

/** Puts the user's own token in the place of the anonymous one, which is kept for the time after. */
export async function linkToken(
  db: Db,
  userId: string,
  link: { clientId: string; sealedToken: string },
): Promise<void> {
  await ensureAccount(db, userId, link.clientId)
  await db
    .update(upstreamAccounts)
    .set({
      kind: 'linked',
      sealedToken: link.sealedToken,
      tokenExpiresAt: null,
      guestSealedToken: sql`case kind when 'anonymous' then sealed_token else guest_sealed_token end`,
      guestTokenExpiresAt: sql`case kind when 'anonymous' then token_expires_at else guest_token_expires_at end`,
      ...renewed,
    })
    .where(eq(upstreamAccounts.userId, userId))
}

export async function unlinkToken(db: Db, userId: string): Promise<void> {
  await db
    .update(upstreamAccounts)
    .set({
      ...renewed,
      kind: 'anonymous',
      sealedToken: sql`guest_sealed_token`,
      tokenExpiresAt: sql`guest_token_expires_at`,
      guestSealedToken: null,
      guestTokenExpiresAt: null,
      state: sql`case when guest_sealed_token is null then 'none' else 'ready' end`,
    })
    .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.kind, 'linked')))
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
    .where(
      and(
        eq(upstreamAccounts.userId, userId),
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

/** Tokens sealed with another key than this one, in the order of their users after `after`. */
export async function sealedOtherwise(
  db: Db,
  sealingKey: string,
  after: string | undefined,
  limit: number,
): Promise<{ userId: string; sealedToken: string }[]> {
  const rows = await db
    .select({ userId: upstreamAccounts.userId, sealedToken: upstreamAccounts.sealedToken })
    .from(upstreamAccounts)
    .where(
      and(
        isNotNull(upstreamAccounts.sealedToken),
        ne(keyId, sealingKey),
        after ? gt(upstreamAccounts.userId, after) : undefined,
      ),
    )
    .orderBy(upstreamAccounts.userId)
    .limit(limit)
  return rows.map(row => ({ userId: row.userId, sealedToken: row.sealedToken! }))
}

/** The same token under another seal; false when a new one has taken its place meanwhile, which stays. */
export async function replaceSeal(db: Db, userId: string, from: string, to: string): Promise<boolean> {
  const rows = await db
    .update(upstreamAccounts)
    .set({ sealedToken: to, updatedAt: sql`now()` })
    .where(and(eq(upstreamAccounts.userId, userId), eq(upstreamAccounts.sealedToken, from)))
    .returning({ userId: upstreamAccounts.userId })
  return rows.length > 0
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
