import { and, count, eq, gt, isNotNull, ne, sql } from 'drizzle-orm'
import type { Db } from './client.ts'
import { upstreamAccounts } from './schema.ts'

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
