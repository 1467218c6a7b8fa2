import { and, asc, eq, gt, sql } from 'drizzle-orm'
import { type Db, prepared } from './client.ts'
import { events, projects } from './schema.ts'

/** One line of a project's log. `chunk` is JSON text: encoded once, written and sent as it is. */
export interface Entry {
  projectId: string
  seq: number
  runId: string | null
  at: Date
  chunk: string
  /** Of a compacted block: the number of its first entry. */
  firstSeq?: number
}

/**
 * Appends chunks (JSON text) to a project's log. The numbers are drawn under the project's row lock, so the order of
 * numbers is the order of commits: a reader of `seq > n` never misses one. Empty when the project does not exist.
 */
export async function appendEvents(
  db: Db,
  projectId: string,
  runId: string | null,
  chunks: string[],
): Promise<Entry[]> {
  const { rows } = await db.execute<{ seq: string; at: Date }>(sql`
    with head as (
      update projects set last_seq = last_seq + ${chunks.length}, last_activity_at = now()
      where id = ${projectId} returning last_seq - ${chunks.length} as base)
    insert into events (project_id, seq, run_id, at, chunk)
    select ${projectId}, head.base + item.n, ${runId}::uuid, date_trunc('milliseconds', clock_timestamp()), item.chunk::json
    from head, unnest(${sql.param(chunks)}::text[]) with ordinality as item (chunk, n)
    returning seq, at`)
  return rows
    .map(row => ({ projectId, seq: Number(row.seq), runId, at: new Date(row.at), chunk: '' }))
    .sort((a, b) => a.seq - b.seq)
    .map((entry, i) => ({ ...entry, chunk: chunks[i]! }))
}

const pageAfter = prepared(db =>
  db
    .select({
      seq: events.seq,
      runId: events.runId,
      at: events.at,
      chunk: sql<string>`${events.chunk}::text`,
      firstSeq: events.firstSeq,
    })
    .from(events)
    .where(and(eq(events.projectId, sql.placeholder('projectId')), gt(events.seq, sql.placeholder('seq'))))
    .orderBy(asc(events.seq))
    .limit(sql.placeholder('limit'))
    .prepare('read_events'),
)

/** Entries after `seq`, oldest first. */
export async function readEvents(db: Db, projectId: string, seq: number, limit: number): Promise<Entry[]> {
  const rows = await pageAfter(db).execute({ projectId, seq, limit })
  return rows.map(({ firstSeq, ...row }) =>
    firstSeq === null ? { projectId, ...row } : { projectId, ...row, firstSeq },
  )
}

/** The number of a run's newest entry; null when the log holds none of it. */
export async function lastSeqOfRun(db: Db, runId: string): Promise<number | null> {
  const { rows } = await db.execute<{ seq: string | null }>(
    sql`select max(seq) as seq from events where run_id = ${runId}`,
  )
  const seq = rows[0]?.seq ?? null
  return seq === null ? null : Number(seq)
}

/** The newest number of each project, by id. */
export async function readHeads(db: Db, projectIds: string[]): Promise<Map<string, number>> {
  if (projectIds.length === 0) return new Map()
  const rows = await db
    .select({ id: projects.id, lastSeq: projects.lastSeq })
    .from(projects)
    // One parameter however many projects: the poll asks for all of them, again and again.
    .where(sql`${projects.id} = any(${sql.param(projectIds)}::uuid[])`)
  return new Map(rows.map(row => [row.id, row.lastSeq]))
}
