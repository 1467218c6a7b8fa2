import { and, asc, desc, eq, inArray, lt, lte, ne, or, type SQL, sql } from 'drizzle-orm'
import type { Problem } from '../problems.ts'
import type { Db } from './client.ts'
import { fields, fromNow, type RenderRow } from './renders.ts'
import { renderAttempts, renders, runs } from './schema.ts'

export type AttemptRow = typeof renderAttempts.$inferSelect
export type AttemptChange = Partial<Pick<AttemptRow, 'delivery' | 'unknownReads' | 'outcome' | 'sessionId'>>
type Columns = Omit<typeof renders.$inferInsert, 'id' | 'lease' | 'nextPollAt'>
export type RenderChange = { [column in keyof Columns]?: Columns[column] | SQL }

/** What a claim gives: the render, its latest attempt, and whether it was followed for long enough. */
export interface ClaimedRow {
  render: RenderRow
  attempt: AttemptRow | null
  overdue: boolean
}

const FOLLOWED = sql`interval '24 hours'`

/**
 * Claims what is due: a fresh lease each, and nobody else looks for `leaseMs`. Whoever dies with a claim is followed
 * by another when that time is over.
 */
export async function claimDue(db: Db, limit: number, leaseMs: number): Promise<ClaimedRow[]> {
  // A CTE that locks rows is run once; as a subquery the planner might run it again and claim more than `limit`.
  const due = db
    .$with('due')
    .as(
      db
        .select({ id: renders.id })
        .from(renders)
        .where(lte(renders.nextPollAt, sql`now()`))
        .orderBy(asc(renders.nextPollAt))
        .limit(limit)
        .for('update', { skipLocked: true }),
    )
  const claimed = await db
    .with(due)
    .update(renders)
    .set({ lease: sql`gen_random_uuid()`, nextPollAt: fromNow(leaseMs) })
    .from(due)
    .where(eq(renders.id, due.id))
    .returning({
      ...fields,
      overdue: sql<boolean>`coalesce(${renders.followUntil}, ${renders.submittedAt} + ${FOLLOWED}) < now()
        and ${renders.needsUserSince} is null`,
    })
  const started = claimed.filter(row => row.attempts > 0).map(row => row.id)
  const attempts = started.length === 0 ? [] : await latestAttempts(db, started)
  const latest = new Map(attempts.map(attempt => [attempt.renderId, attempt]))
  return claimed.map(({ overdue, ...render }) => ({
    render,
    attempt: latest.get(render.id) ?? null,
    overdue,
  }))
}

/** The latest attempt of each of these renders. */
export function latestAttempts(db: Db, ids: string[]): Promise<AttemptRow[]> {
  return db
    .selectDistinctOn([renderAttempts.renderId])
    .from(renderAttempts)
    .where(inArray(renderAttempts.renderId, ids))
    .orderBy(renderAttempts.renderId, desc(renderAttempts.number))
}

/** How long until something is due, in ms; null when nothing is waited for. */
export async function nextDueInMs(db: Db): Promise<number | null> {
  const [row] = await db
    .select({ ms: sql<string | null>`extract(epoch from min(${renders.nextPollAt}) - now()) * 1000` })
    .from(renders)
  return row?.ms == null ? null : Math.max(0, Number(row.ms))
}

type Claim = { render: { id: string; lease: string | null } }

/** The guarded writes answer `undefined`, and change nothing, when the claim has passed to somebody else. */
async function write(db: Db, { render }: Claim, change: Record<string, unknown>) {
  const [row] = await db
    .update(renders)
    .set(change)
    .where(and(eq(renders.id, render.id), eq(renders.lease, render.lease!)))
    .returning(fields)
  return row
}

/** Keeps the claim for another `leaseMs`. */
export function renewClaim(db: Db, claim: Claim, leaseMs: number): Promise<RenderRow | undefined> {
  return write(db, claim, { nextPollAt: fromNow(leaseMs) })
}

const USER_IS_THERE = { needsUserSince: null, problem: null }

/** One attempt more, with the draft if it was read only now. The claim is kept for another `leaseMs`. */
export function beginAttempt(
  db: Db,
  claim: Claim,
  leaseMs: number,
  change: { attempts: number; draft?: string; revision?: number },
): Promise<RenderRow | undefined> {
  return write(db, claim, {
    ...change,
    state: 'submitting',
    ...USER_IS_THERE,
    polls: 0,
    submittedAt: sql`now()`,
    followUntil: sql`now() + ${FOLLOWED}`,
    nextPollAt: fromNow(leaseMs),
  })
}

/** Writes `change` and gives the claim back: looked at again in `ms`, or at once if a cancellation came meanwhile. */
export function releaseClaim(
  db: Db,
  claim: { render: Pick<RenderRow, 'id' | 'lease' | 'cancelRequestedAt'> },
  ms: number,
  change: RenderChange,
): Promise<RenderRow | undefined> {
  const unseen = claim.render.cancelRequestedAt === null
  const nextPollAt = unseen
    ? sql`case when ${renders.cancelRequestedAt} is null then ${fromNow(ms)} else ${fromNow(0)} end`
    : fromNow(ms)
  return write(db, claim, { ...change, lease: null, nextPollAt })
}

/** A poll's result as it is written: looked at again in `ms`, and the progress if there was any. */
export interface Release {
  render: Pick<RenderRow, 'id' | 'lease' | 'cancelRequestedAt'>
  ms: number
  progress: number | null
}

/**
 * Gives many claims back, each as `releaseClaim` would after a poll.
 * @returns the rows of those that were still held
 */
export async function releaseClaims(db: Db, releases: Release[]): Promise<RenderRow[]> {
  const column = <T>(of: (release: Release) => T) => sql.param(releases.map(of))
  const release = sql`unnest(
    ${column(({ render }) => render.id)}::uuid[], ${column(({ render }) => render.lease)}::uuid[],
    ${column(({ render }) => render.cancelRequestedAt !== null)}::bool[],
    ${column(({ ms }) => Math.round(ms))}::int[], ${column(({ progress }) => progress)}::int[]
  ) as release (render_id, held, seen, ms, new_progress)`
  return db
    .update(renders)
    .set({
      lease: null,
      polls: sql`${renders.polls} + 1`,
      progress: sql`coalesce(new_progress, ${renders.progress})`,
      nextPollAt: sql`${fromNow(0)} + case when seen or ${renders.cancelRequestedAt} is null then ms else 0 end
        * interval '1 millisecond'`,
    })
    .from(release)
    .where(and(sql`${renders.id} = render_id`, sql`${renders.lease} = held`))
    .returning(fields)
}

/** What the upstream said, which it would not have without the user: time that was waited for them does not count. */
export function continueClaim(
  db: Db,
  claim: Parameters<typeof releaseClaim>[1],
  ms: number,
  change: RenderChange,
): Promise<RenderRow | undefined> {
  const followUntil = sql`case when ${renders.needsUserSince} is null then ${renders.followUntil}
    else now() + ${FOLLOWED} end`
  return releaseClaim(db, claim, ms, { ...change, ...USER_IS_THERE, followUntil })
}

/** The render waits for its user, and is looked at again in `ms` to see whether they are back. */
export function pauseClaim(
  db: Db,
  claim: Parameters<typeof releaseClaim>[1],
  ms: number,
  problem: Problem,
): Promise<RenderRow | undefined> {
  return releaseClaim(db, claim, ms, { problem, polls: 0, needsUserSince: sql`now()` })
}

/** Writes `change`, after which nothing is left to look at. */
export function endRender(
  db: Db,
  claim: Claim,
  change: RenderChange & { state: 'completed' | 'failed' | 'cancelled' },
): Promise<RenderRow | undefined> {
  const completedAt = change.state === 'completed' ? sql`now()` : null
  return write(db, claim, { needsUserSince: null, ...change, completedAt, lease: null, nextPollAt: null })
}

/** Gives claims back unchanged, for others to take at once. */
export async function abandonClaims(db: Db, leases: string[]): Promise<void> {
  if (leases.length === 0) return
  await db
    .update(renders)
    .set({ lease: null, nextPollAt: fromNow(0) })
    .where(inArray(renders.lease, leases))
}

/** The draft's bytes. */
export async function loadDraft(db: Db, id: string): Promise<string | null> {
  const [row] = await db.select({ draft: renders.draft }).from(renders).where(eq(renders.id, id))
  return row?.draft ?? null
}

/**
 * What a queued render waits for: an earlier render of its project, or, while it has no draft, messages that were
 * sent before it.
 */
export async function waitsFor(db: Db, render: RenderRow): Promise<'render' | 'run' | null> {
  const { id, projectId, createdAt } = render
  const earlier = and(
    eq(renders.state, 'queued'),
    or(lt(renders.createdAt, createdAt), and(eq(renders.createdAt, createdAt), lt(renders.id, id))),
  )
  const [ahead] = await db
    .select({ id: renders.id })
    .from(renders)
    .where(
      and(
        eq(renders.projectId, projectId),
        ne(renders.id, id),
        or(inArray(renders.state, ['submitting', 'rendering']), earlier),
      ),
    )
    .limit(1)
  if (ahead) return 'render'
  if (render.hasDraft) return null
  const [run] = await db
    .select({ id: runs.id })
    .from(runs)
    .where(
      and(
        eq(runs.projectId, projectId),
        // Spelled as the partial index is.
        sql`state in ('queued', 'running', 'reconciling')`,
        lte(runs.createdAt, createdAt),
      ),
    )
    .limit(1)
  return run ? 'run' : null
}

/** Written before the submission's first byte leaves: from here on it may have been heard. */
export async function insertAttempt(
  db: Db,
  attempt: { renderId: string; number: number; upstreamId: string; sessionId: string },
): Promise<AttemptRow> {
  const [row] = await db
    .insert(renderAttempts)
    .values({ ...attempt, delivery: 'sent' })
    .returning()
  return row!
}

export async function updateAttempt(
  db: Db,
  { renderId, number }: Pick<AttemptRow, 'renderId' | 'number'>,
  change: AttemptChange,
): Promise<AttemptRow> {
  const [row] = await db
    .update(renderAttempts)
    .set(change.outcome ? { ...change, endedAt: sql`now()` } : change)
    .where(and(eq(renderAttempts.renderId, renderId), eq(renderAttempts.number, number)))
    .returning()
  return row!
}
