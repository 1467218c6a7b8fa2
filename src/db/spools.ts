import { and, count, eq, getTableColumns, inArray, isNull, lt, sql } from 'drizzle-orm'
import type { Db } from './client.ts'
import { projects, uploadSpools, uploads } from './schema.ts'
import type { UploadRow } from './uploads.ts'

export type SpoolRow = typeof uploadSpools.$inferSelect
/** An upload that came, or comes, through a spool. */
export type SpooledRow = { upload: UploadRow; spool: SpoolRow }

const SPOOL_LOCK = 1_936_748_396
const both = { upload: getTableColumns(uploads), spool: getTableColumns(uploadSpools) }
const underWay = inArray(uploads.state, ['receiving', 'forwarding'])

/** Until the transaction ends, nobody else reserves room in this spool. */
export async function lockSpool(tx: Db, spool: string): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock(${SPOOL_LOCK}, hashtext(${spool}))`)
}

/** What uploads take of a spool in bytes, and how much of that has not come yet. */
export async function reservedIn(db: Db, spool: string): Promise<{ bytes: number; missing: number }> {
  const [row] = await db
    .select({
      bytes: sql<number>`coalesce(sum(${uploads.bytes}), 0)`.mapWith(Number),
      missing: sql<number>`coalesce(sum(${uploads.bytes} - ${uploadSpools.received})
        filter (where ${uploads.state} = 'receiving'), 0)`.mapWith(Number),
    })
    .from(uploadSpools)
    .innerJoin(uploads, eq(uploads.id, uploadSpools.uploadId))
    .where(eq(uploadSpools.spool, spool))
  return row!
}

/** How many uploads of a user have begun to be received and are not whole. */
export async function countReceiving(db: Db, userId: string): Promise<number> {
  const [row] = await db
    .select({ uploads: count() })
    .from(uploadSpools)
    .innerJoin(uploads, eq(uploads.id, uploadSpools.uploadId))
    .where(and(eq(uploads.userId, userId), eq(uploads.state, 'receiving')))
  return row!.uploads
}

export async function insertSpool(
  db: Db,
  spool: Omit<typeof uploadSpools.$inferInsert, 'expiresAt'>,
  keepMs: number,
): Promise<void> {
  await db.insert(uploadSpools).values({ ...spool, expiresAt: after(keepMs) })
}

export async function loadSpooled(db: Db, id: string): Promise<SpooledRow | undefined> {
  const [row] = await db
    .select(both)
    .from(uploadSpools)
    .innerJoin(uploads, eq(uploads.id, uploadSpools.uploadId))
    .where(eq(uploadSpools.uploadId, id))
  return row
}

/** The user's own upload in a project that is still there; `spool` is null once nothing is kept of it. */
export async function findSpooled(
  db: Db,
  owner: { userId: string; projectId: string },
  id: string,
): Promise<{ upload: UploadRow; spool: SpoolRow | null } | undefined> {
  const [row] = await db
    .select(both)
    .from(uploads)
    .innerJoin(projects, eq(projects.id, uploads.projectId))
    .leftJoin(uploadSpools, eq(uploadSpools.uploadId, uploads.id))
    .where(
      and(
        eq(uploads.id, id),
        eq(uploads.userId, owner.userId),
        eq(uploads.projectId, owner.projectId),
        isNull(projects.deletedAt),
      ),
    )
  return row
}

export async function recordReceived(db: Db, id: string, received: number): Promise<void> {
  await db.update(uploadSpools).set({ received }).where(eq(uploadSpools.uploadId, id))
}

/** All bytes are there; undefined when somebody has noticed it before. */
export async function startForwarding(
  db: Db,
  id: string,
  mediaType: string,
  keepMs: number,
): Promise<UploadRow | undefined> {
  const [row] = await db
    .update(uploads)
    .set({ state: 'forwarding', mediaType, updatedAt: sql`now()` })
    .where(and(eq(uploads.id, id), eq(uploads.state, 'receiving')))
    .returning()
  if (row)
    await db
      .update(uploadSpools)
      .set({ received: sql`${row.bytes}`, expiresAt: after(keepMs) })
      .where(eq(uploadSpools.uploadId, id))
  return row
}

/** The intent, before the first byte leaves. */
export async function recordSent(
  db: Db,
  id: string,
  baseline: { sessionGeneration: number; upstreamName: string },
): Promise<void> {
  await db
    .update(uploadSpools)
    .set({ ...baseline, delivery: 'sent' })
    .where(eq(uploadSpools.uploadId, id))
}

/** What was sent has certainly not been taken. */
export async function recordNotSent(db: Db, id: string): Promise<void> {
  await db.update(uploadSpools).set({ delivery: 'not_sent' }).where(eq(uploadSpools.uploadId, id))
}

/** Nothing is kept of this upload any more. */
export async function deleteSpool(db: Db, id: string): Promise<void> {
  await db.delete(uploadSpools).where(eq(uploadSpools.uploadId, id))
}

/** Uploads under way whose time is over, in whatever spool they are. */
export async function expiredSpools(db: Db, limit: number): Promise<SpooledRow[]> {
  return db
    .select(both)
    .from(uploadSpools)
    .innerJoin(uploads, eq(uploads.id, uploadSpools.uploadId))
    .where(and(underWay, lt(uploadSpools.expiresAt, sql`now()`)))
    .limit(limit)
}

/** Uploads in this spool that have ended, or that have been received for `quietMs` and may be whole. */
export async function leftInSpool(
  db: Db,
  spool: string,
  state: 'ended' | 'receiving',
  quietMs: number,
  limit: number,
): Promise<SpooledRow[]> {
  return db
    .select(both)
    .from(uploadSpools)
    .innerJoin(uploads, eq(uploads.id, uploadSpools.uploadId))
    .where(
      and(
        eq(uploadSpools.spool, spool),
        inArray(uploads.state, state === 'ended' ? ['ready', 'failed'] : ['receiving']),
        lt(uploads.updatedAt, sql`now() - ${quietMs} * interval '1 millisecond'`),
      ),
    )
    .orderBy(sql`${uploads.updatedAt} desc`)
    .limit(limit)
}

/** Which of these have no row. */
export async function withoutSpool(db: Db, ids: string[]): Promise<string[]> {
  if (ids.length === 0) return []
  const rows = await db
    .select({ id: uploadSpools.uploadId })
    .from(uploadSpools)
    .where(inArray(uploadSpools.uploadId, ids))
  const known = new Set(rows.map(row => row.id))
  return ids.filter(id => !known.has(id))
}

const after = (ms: number) => sql`now() + ${ms} * interval '1 millisecond'`
