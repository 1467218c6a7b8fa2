import { and, desc, eq, getTableColumns, inArray, isNull, lt, notExists, sql } from 'drizzle-orm'
import type { Problem } from '../problems.ts'
import { type Db, LAST_ID, prepared } from './client.ts'
import { projects, uploadSpools, uploads } from './schema.ts'
import { asUser } from './tenants.ts'

export type UploadRow = typeof uploads.$inferSelect

export async function insertUpload(db: Db, upload: typeof uploads.$inferInsert): Promise<UploadRow> {
  const [row] = await db.insert(uploads).values(upload).returning()
  return row!
}

/** The user's own upload in a project that is still there. */
export async function findUpload(db: Db, userId: string, id: string): Promise<UploadRow | undefined> {
  const [row] = await asUser(db, userId, own =>
    own
      .select(getTableColumns(uploads))
      .from(uploads)
      .innerJoin(projects, eq(projects.id, uploads.projectId))
      .where(and(eq(uploads.id, id), eq(uploads.userId, userId), isNull(projects.deletedAt))),
  )
  return row
}

const pageOfUploads = prepared(db =>
  db
    .select()
    .from(uploads)
    .where(and(eq(uploads.projectId, sql.placeholder('projectId')), lt(uploads.id, sql.placeholder('after'))))
    .orderBy(desc(uploads.id))
    .limit(sql.placeholder('limit'))
    .prepare('list_uploads'),
)

/** Newest first; `after` is the id of the last upload of the page before. */
export async function listUploads(
  db: Db,
  projectId: string,
  after: string | undefined,
  limit: number,
): Promise<UploadRow[]> {
  return pageOfUploads(db).execute({ projectId, after: after ?? LAST_ID, limit })
}

/** Undefined when the upload has ended meanwhile. */
export async function recordForwarded(
  db: Db,
  id: string,
  bytesForwarded: number,
): Promise<UploadRow | undefined> {
  return update(db, id, { bytesForwarded })
}

/** Ends an upload; undefined when it has ended before, for an end is final. */
export async function finishUpload(
  db: Db,
  id: string,
  end:
    | { state: 'ready'; media: unknown; bytes: number | null; bytesForwarded: number }
    | { state: 'failed'; problem: Problem; bytesForwarded: number },
): Promise<UploadRow | undefined> {
  return update(db, id, end)
}

/** Uploads under way that nothing has touched for `olderThanMs`, oldest first. Spooled ones wait for their turn. */
export async function silentUploads(db: Db, olderThanMs: number, limit: number): Promise<UploadRow[]> {
  return db
    .select()
    .from(uploads)
    .where(and(eq(uploads.state, 'forwarding'), silentFor(olderThanMs), notExists(spoolOf(db))))
    .orderBy(uploads.updatedAt)
    .limit(limit)
}

/** Fails an upload that is silent still; undefined when it has moved or ended since it was listed. */
export async function failSilent(
  db: Db,
  id: string,
  olderThanMs: number,
  problem: Problem,
): Promise<UploadRow | undefined> {
  const [row] = await db
    .update(uploads)
    .set({ state: 'failed', problem, updatedAt: sql`now()` })
    .where(and(eq(uploads.id, id), eq(uploads.state, 'forwarding'), silentFor(olderThanMs)))
    .returning()
  return row
}

async function update(db: Db, id: string, values: Partial<UploadRow>): Promise<UploadRow | undefined> {
  const [row] = await db
    .update(uploads)
    .set({ ...values, updatedAt: sql`now()` })
    .where(and(eq(uploads.id, id), inArray(uploads.state, ['receiving', 'forwarding'])))
    .returning()
  return row
}

const silentFor = (ms: number) => sql`${uploads.updatedAt} < now() - ${ms} * interval '1 millisecond'`
const spoolOf = (db: Db) =>
  db.select({ one: sql`1` }).from(uploadSpools).where(eq(uploadSpools.uploadId, uploads.id))
