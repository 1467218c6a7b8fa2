import { and, count, desc, eq, inArray, isNotNull, lt, lte, sql } from 'drizzle-orm'
import { type Db, LAST_ID, prepared } from './client.ts'
import { runs } from './schema.ts'
import { asUser } from './tenants.ts'

export type RunRow = typeof runs.$inferSelect

const UNFINISHED = ['queued', 'running', 'reconciling'] as const

export async function insertRun(db: Db, run: typeof runs.$inferInsert): Promise<RunRow> {
  const [row] = await db.insert(runs).values(run).returning()
  return row!
}

const ownRun = prepared(db =>
  db
    .select()
    .from(runs)
    .where(and(eq(runs.id, sql.placeholder('id')), eq(runs.userId, sql.placeholder('userId'))))
    .prepare('find_run'),
)

export async function findRun(db: Db, userId: string, id: string): Promise<RunRow | undefined> {
  const [row] = await asUser(db, userId, own => ownRun(own).execute({ id, userId }))
  return row
}

/** The run that the same request made before. */
export async function findRequested(db: Db, userId: string, requestKey: string): Promise<RunRow | undefined> {
  const [row] = await db
    .select()
    .from(runs)
    .where(and(eq(runs.userId, userId), eq(runs.requestKey, requestKey)))
  return row
}

/** The run that an AG-UI client of this project calls `alias`. */
export async function findAliased(db: Db, projectId: string, alias: string): Promise<RunRow | undefined> {
  const [row] = await db
    .select()
    .from(runs)
    .where(and(eq(runs.alias, alias), eq(runs.projectId, projectId)))
  return row
}

/** The newest of the user's runs with this alias, whatever its project. */
export async function findAliasedOf(db: Db, userId: string, alias: string): Promise<RunRow | undefined> {
  const [row] = await db
    .select()
    .from(runs)
    .where(and(eq(runs.alias, alias), eq(runs.userId, userId)))
    .orderBy(desc(runs.id))
    .limit(1)
  return row
}

/** The run that is at work, or else the one whose turn is next. */
export async function currentRun(db: Db, projectId: string): Promise<RunRow | undefined> {
  const [row] = await db
    .select()
    .from(runs)
    .where(and(eq(runs.projectId, projectId), inArray(runs.state, [...UNFINISHED])))
    .orderBy(sql`${runs.state} = 'queued'`, runs.id)
    .limit(1)
  return row
}

const pageOfRuns = prepared(db =>
  db
    .select()
    .from(runs)
    .where(and(eq(runs.projectId, sql.placeholder('projectId')), lt(runs.id, sql.placeholder('after'))))
    .orderBy(desc(runs.id))
    .limit(sql.placeholder('limit'))
    .prepare('list_runs'),
)

/** Newest first. */
export async function listRuns(
  db: Db,
  projectId: string,
  after: string | undefined,
  limit: number,
): Promise<RunRow[]> {
  return pageOfRuns(db).execute({ projectId, after: after ?? LAST_ID, limit })
}

/** How many runs of the project wait and how many are at work. */
export async function countUnfinished(
  db: Db,
  projectId: string,
): Promise<{ queued: number; active: number }> {
  const rows = await db
    .select({ state: runs.state, n: count() })
    .from(runs)
    .where(and(eq(runs.projectId, projectId), inArray(runs.state, [...UNFINISHED])))
    .groupBy(runs.state)
  const of = (state: string) => rows.find(row => row.state === state)?.n ?? 0
  return { queued: of('queued'), active: of('running') + of('reconciling') }
}

/** Takes the run for this attempt of its job; undefined when a later attempt has it. */
export async function takeRun(db: Db, id: string, attempt: number): Promise<RunRow | undefined> {
  const [row] = await db
    .update(runs)
    .set({ attempt })
    .where(and(eq(runs.id, id), lte(runs.attempt, attempt)))
    .returning()
  return row
}

/**
 * The fence of every write: counts one batch more and locks the run for this transaction. False when another attempt
 * has the run, or when this very batch has been written before.
 */
export async function countLogWrite(db: Db, id: string, attempt: number, batch: number): Promise<boolean> {
  const rows = await db
    .update(runs)
    .set({ logWrites: batch })
    .where(and(eq(runs.id, id), eq(runs.attempt, attempt), eq(runs.logWrites, batch - 1)))
    .returning({ id: runs.id })
  return rows.length > 0
}

export async function loadRun(db: Db, id: string): Promise<RunRow | undefined> {
  const [row] = await db.select().from(runs).where(eq(runs.id, id))
  return row
}

/** The run that has begun and not ended; a project has at most one. */
export async function activeRunId(db: Db, projectId: string): Promise<string | undefined> {
  const [row] = await db
    .select({ id: runs.id })
    .from(runs)
    .where(
      and(
        eq(runs.projectId, projectId),
        inArray(runs.state, ['running', 'reconciling']),
        isNotNull(runs.startedAt),
      ),
    )
  return row?.id
}

export async function updateRun(
  db: Db,
  id: string,
  change: Partial<typeof runs.$inferInsert>,
): Promise<RunRow> {
  const [row] = await db.update(runs).set(change).where(eq(runs.id, id)).returning()
  return row!
}

export async function requestStop(db: Db, id: string): Promise<RunRow | undefined> {
  const [row] = await db
    .update(runs)
    .set({ stopRequestedAt: sql`now()` })
    .where(and(eq(runs.id, id), inArray(runs.state, [...UNFINISHED])))
    .returning()
  return row
}

/** Of these runs, those that somebody has asked to stop. */
export async function stopRequests(db: Db, ids: string[]): Promise<string[]> {
  const rows = await db
    .select({ id: runs.id })
    .from(runs)
    .where(and(inArray(runs.id, ids), isNotNull(runs.stopRequestedAt)))
  return rows.map(row => row.id)
}
