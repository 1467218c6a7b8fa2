import { sql } from 'drizzle-orm'
import type { Db } from './client.ts'

/**
 * What is followed to an end: the states before it, the one that is a success, and the column that dates it.
 * `unfinished` is spelled as a partial index is, so that what has ended costs nothing.
 */
const KINDS = {
  renders: {
    active: ['queued', 'submitting', 'rendering'],
    unfinished: sql`next_poll_at is not null`,
    success: 'completed',
    endedAt: 'completed_at',
  },
  runs: {
    active: ['queued', 'running', 'reconciling'],
    unfinished: sql`state in ('queued', 'running', 'reconciling')`,
    success: 'completed',
    endedAt: 'finished_at',
  },
  uploads: {
    active: ['receiving', 'forwarding'],
    unfinished: sql`state in ('receiving', 'forwarding')`,
    success: 'ready',
    endedAt: 'updated_at',
  },
} as const

export type Kind = keyof typeof KINDS

const HOUR_MS = 3_600_000
export const WINDOWS = { lastHour: HOUR_MS, lastDay: 24 * HOUR_MS, lastWeek: 7 * 24 * HOUR_MS } as const
export type Window = keyof typeof WINDOWS

export interface ActiveRow {
  state: string
  count: number
  oldestAt: Date | null
}

/** How many there are in each state that is not final, and since when the oldest one waits. */
export async function countActive(db: Db, kind: Kind): Promise<ActiveRow[]> {
  const { active, unfinished } = KINDS[kind]
  const { rows } = await db.execute<{ state: string; count: number; oldest_at: string | null }>(sql`
    select state, count(*)::integer as count, min(created_at) as oldest_at
    from ${sql.identifier(kind)} where ${unfinished} group by state`)
  return active.map(state => {
    const row = rows.find(row => row.state === state)
    return { state, count: row?.count ?? 0, oldestAt: row?.oldest_at ? new Date(row.oldest_at) : null }
  })
}

export interface WindowRow {
  succeeded: number
  failed: number
  p50Ms: number | null
  p95Ms: number | null
}

/** Of what was asked for in each window: how it ended, and how long a success took from asking to the end. */
export async function summarize(db: Db, kind: Kind, now = Date.now()): Promise<Record<Window, WindowRow>> {
  const { success, endedAt } = KINDS[kind]
  const took = sql`extract(epoch from ${sql.identifier(endedAt)} - created_at) * 1000`
  const summaries = Object.entries(WINDOWS).map(async ([name, ms]) => {
    // Ids begin with the time, so the primary key finds the window; an hour is allowed for clocks that differ.
    const { rows } = await db.execute<Record<keyof WindowRow, number | null>>(sql`
      select count(*) filter (where state = ${success})::integer as "succeeded",
        count(*) filter (where state = 'failed')::integer as "failed",
        percentile_cont(0.5) within group (order by ${took}) filter (where state = ${success}) as "p50Ms",
        percentile_cont(0.95) within group (order by ${took}) filter (where state = ${success}) as "p95Ms"
      from ops.${sql.identifier(kind)}
      where id >= ${firstId(now - ms - HOUR_MS)} and created_at > ${new Date(now - ms).toISOString()}::timestamptz`)
    return [name, rows[0]]
  })
  return Object.fromEntries(await Promise.all(summaries))
}

/** The least UUIDv7 that can have been made at `ms`. */
function firstId(ms: number): string {
  const hex = Math.max(0, ms).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`
}

export interface QueueRow extends Record<string, unknown> {
  name: string
  waiting: number
  deferred: number
  active: number
  failed: number
  blockedKeys: number
  oldestWaitingAt: Date | null
}

export async function readQueues(db: Db): Promise<QueueRow[]> {
  const { rows } = await db.execute<QueueRow>(sql`
    select name, waiting::integer, deferred::integer, active::integer, failed::integer,
      blocked_keys::integer as "blockedKeys", oldest_waiting_at as "oldestWaitingAt"
    from ops.queues order by name`)
  return rows.map(row => ({ ...row, oldestWaitingAt: row.oldestWaitingAt && new Date(row.oldestWaitingAt) }))
}

export interface MintBudgetRow extends Record<string, unknown> {
  budget: number
  delivered: number
  unknown: number
  refused: number
  remaining: number
  nextFreedAt: Date | null
}

export async function readMintBudget(db: Db): Promise<MintBudgetRow> {
  const { rows } = await db.execute<MintBudgetRow>(sql`
    select budget, delivered, unknown, refused, remaining, next_freed_at as "nextFreedAt" from ops.mint_budget`)
  const row = rows[0]!
  return { ...row, nextFreedAt: row.nextFreedAt && new Date(row.nextFreedAt) }
}

/** How long the render that has been due longest waits to be looked at, in seconds. */
export async function renderPollLagSeconds(db: Db): Promise<number> {
  const { rows } = await db.execute<{ lag: string | null }>(
    sql`select extract(epoch from now() - min(next_poll_at)) as lag from renders`,
  )
  return Math.max(0, Number(rows[0]?.lag ?? 0))
}
