import { and, desc, eq, isNotNull, isNull, lt, sql } from 'drizzle-orm'
import {
  bigint,
  boolean,
  integer,
  type PgColumn,
  type PgTable,
  pgSchema,
  text,
  timestamp,
  uuid,
} from 'drizzle-orm/pg-core'
import type { Db } from './client.ts'
import { renders } from './schema.ts'

/** The views of the schema `ops`, as the migrations made them: to read, they are like tables. They hold no secret and nothing that a user wrote. */
const ops = pgSchema('ops')
const at = (name: string) => timestamp(name, { withTimezone: true })
const ids = {
  id: uuid().notNull(),
  projectId: uuid('project_id').notNull(),
  userId: uuid('user_id').notNull(),
}

export const opsRenders = ops.table('renders', {
  ...ids,
  platform: text().notNull(),
  state: text().notNull(),
  progress: integer().notNull(),
  attempts: integer().notNull(),
  polls: integer().notNull(),
  format: text().notNull(),
  quality: text().notNull(),
  revision: integer().notNull(),
  problemCode: text('problem_code'),
  hasDraft: boolean('has_draft').notNull(),
  fileBytes: bigint('file_bytes', { mode: 'number' }),
  durationMs: integer('duration_ms'),
  cancelRequestedAt: at('cancel_requested_at'),
  nextPollAt: at('next_poll_at'),
  claimed: boolean().notNull(),
  createdAt: at('created_at').notNull(),
  submittedAt: at('submitted_at'),
  completedAt: at('completed_at'),
  needsUserSince: at('needs_user_since'),
})

export const opsRuns = ops.table('runs', {
  ...ids,
  platform: text().notNull(),
  state: text().notNull(),
  delivery: text().notNull(),
  attempt: integer().notNull(),
  outcome: text(),
  problemCode: text('problem_code'),
  settled: boolean().notNull(),
  stopRequestedAt: at('stop_requested_at'),
  unchangedReads: integer('unchanged_reads').notNull(),
  nextReadAt: at('next_read_at'),
  creditsBefore: integer('credits_before'),
  creditsAfter: integer('credits_after'),
  createdAt: at('created_at').notNull(),
  startedAt: at('started_at'),
  finishedAt: at('finished_at'),
})

export const opsUploads = ops.table('uploads', {
  ...ids,
  state: text().notNull(),
  mediaType: text('media_type'),
  bytes: bigint({ mode: 'number' }),
  bytesForwarded: bigint('bytes_forwarded', { mode: 'number' }).notNull(),
  problemCode: text('problem_code'),
  createdAt: at('created_at').notNull(),
  updatedAt: at('updated_at').notNull(),
})

export const opsAccounts = ops.table('accounts', {
  id: uuid().notNull(),
  userId: uuid('user_id').notNull(),
  userKind: text('user_kind').notNull(),
  kind: text().notNull(),
  state: text().notNull(),
  hasToken: boolean('has_token').notNull(),
  tokenExpiresAt: at('token_expires_at'),
  generation: integer().notNull(),
  mints: integer().notNull(),
  retryAt: at('retry_at'),
  mintingUntil: at('minting_until'),
  createdAt: at('created_at').notNull(),
  updatedAt: at('updated_at').notNull(),
  serves: boolean().notNull(),
})

export interface Page {
  after?: string | undefined
  limit: number
  /** By the view's column, as it is named here; what is undefined does not restrict. */
  where: Record<string, string | undefined>
}

export const listRenders = (db: Db, page: Page) => list(db, opsRenders, opsRenders.id, page)
export const listRuns = (db: Db, page: Page) => list(db, opsRuns, opsRuns.id, page)
export const listUploads = (db: Db, page: Page) => list(db, opsUploads, opsUploads.id, page)
export const listAccounts = (db: Db, page: Page) => list(db, opsAccounts, opsAccounts.id, page)

/** Newest first. */
async function list<V extends PgTable>(db: Db, view: V, id: PgColumn, { after, limit, where }: Page) {
  const columns = view as unknown as Record<string, PgColumn>
  const wanted = Object.entries(where).map(([name, value]) =>
    value === undefined ? undefined : eq(columns[name]!, value),
  )
  const rows = await db
    .select()
    .from(view as PgTable)
    .where(and(...wanted, after ? lt(id, after) : undefined))
    .orderBy(desc(id))
    .limit(limit)
  return rows as V['$inferSelect'][]
}

export async function findRender(db: Db, id: string) {
  const [row] = await listRenders(db, { where: { id }, limit: 1 })
  return row
}

/** A render that nobody has in hand is due now; one that has ended stays as it is. */
export async function makeDue(db: Db, id: string): Promise<void> {
  await db
    .update(renders)
    .set({ nextPollAt: sql`date_trunc('milliseconds', now())` })
    .where(and(eq(renders.id, id), isNull(renders.lease), isNotNull(renders.nextPollAt)))
}
