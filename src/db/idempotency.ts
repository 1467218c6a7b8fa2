import { and, eq, sql } from 'drizzle-orm'
import type { Db } from './client.ts'
import { idempotencyKeys } from './schema.ts'
import { asUser } from './tenants.ts'

export interface RequestId {
  userId: string
  route: string
  key: string
}

export type KeyRow = typeof idempotencyKeys.$inferSelect

const is = ({ userId, route, key }: RequestId) =>
  and(eq(idempotencyKeys.userId, userId), eq(idempotencyKeys.route, route), eq(idempotencyKeys.key, key))

/** True for the one request that may run now. A claim whose process died is open again after a minute. */
export async function claimKey(db: Db, request: RequestId, bodyHash: Buffer): Promise<boolean> {
  const { rows } = await asUser(db, request.userId, own =>
    own.execute(sql`
      insert into idempotency_keys as k (user_id, route, key, body_hash, locked_until)
      values (${request.userId}, ${request.route}, ${request.key}, ${bodyHash}, now() + interval '1 minute')
      on conflict (user_id, route, key) do update set locked_until = excluded.locked_until
      where k.status is null and k.locked_until < now() and k.body_hash = excluded.body_hash
      returning 1`),
  )
  return rows.length > 0
}

export async function findKey(db: Db, request: RequestId): Promise<KeyRow | undefined> {
  const [row] = await asUser(db, request.userId, own => own.select().from(idempotencyKeys).where(is(request)))
  return row
}

export async function recordAnswer(
  db: Db,
  request: RequestId,
  answer: { status: number; headers: Record<string, string>; body: string },
): Promise<void> {
  await asUser(db, request.userId, own => own.update(idempotencyKeys).set(answer).where(is(request)))
}

/** The request came to nothing: it may be made again. */
export async function releaseKey(db: Db, request: RequestId): Promise<void> {
  await asUser(db, request.userId, own => own.delete(idempotencyKeys).where(is(request)))
}

export async function sweepKeys(db: Db): Promise<void> {
  await db.execute(sql`delete from idempotency_keys where created_at < now() - interval '24 hours'`)
}
