import { and, asc, eq, lt, sql } from 'drizzle-orm'
import type { Db } from './client.ts'
import type { Entry } from './events.ts'
import { events, runs } from './schema.ts'

/** Runs that ended before `before` and whose text is still in pieces. Locked, so that each is compacted by one. */
export async function takeUncompacted(db: Db, before: Date, limit: number): Promise<string[]> {
  const rows = await db
    .select({ id: runs.id })
    .from(runs)
    .where(and(eq(runs.compacted, false), lt(runs.finishedAt, before)))
    .orderBy(asc(runs.finishedAt))
    .limit(limit)
    .for('update', { skipLocked: true })
  return rows.map(({ id }) => id)
}

export async function markCompacted(db: Db, runId: string): Promise<void> {
  await db.update(runs).set({ compacted: true }).where(eq(runs.id, runId))
}

/** A run's entries, oldest first. */
export async function readRunEvents(db: Db, runId: string): Promise<Entry[]> {
  const rows = await db
    .select({ ...columns, chunk: sql<string>`${events.chunk}::text` })
    .from(events)
    .where(eq(events.runId, runId))
    .orderBy(asc(events.seq))
  return rows.map(({ firstSeq, ...row }) => (firstSeq === null ? row : { ...row, firstSeq }))
}

const { projectId, seq, at, firstSeq } = events
const columns = { projectId, seq, runId: events.runId, at, firstSeq }

/** Lets one entry stand for those of the numbers `gone`, which stood right before it. */
export async function joinEvents(db: Db, entry: Entry, gone: number[]): Promise<void> {
  await db.execute(sql`
    delete from events
    where project_id = ${entry.projectId} and run_id = ${entry.runId} and seq = any(${sql.param(gone)}::bigint[])`)
  await db.execute(sql`
    update events set chunk = ${entry.chunk}::json, first_seq = ${entry.firstSeq ?? null}
    where project_id = ${entry.projectId} and seq = ${entry.seq} and at = ${entry.at.toISOString()}`)
}
