import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from '@platformatic/prom-client'
import type { Pool } from 'pg'
import type { Db } from './db/client.ts'
import { countActive, type Kind, readMintBudget, readQueues, renderPollLagSeconds } from './db/overview.ts'
import { VERSION } from './logger.ts'
import type { Chunk, Entry } from './services/events/event.ts'

/** What the parts report, and the page that Prometheus reads. Made only when somebody may read it. */
export interface Metrics {
  /** `seconds` is null for an answer that streams for as long as its reader stays. */
  answered(request: {
    method: string
    route: string
    status: number
    platform: string
    seconds: number | null
  }): void
  upstreamCalled(call: string, outcome: string, seconds: number): void
  sharedTokenRefused(): void
  /** A transaction of the log, with what it told. */
  committed(chunks: Chunk[], seconds: number): void
  /** A batch that this instance's readers of one project are offered. Called once a batch, not once a reader. */
  offered(entries: Entry[]): void
  countReaders(count: () => number): void
  /** The page, in Prometheus's text format. */
  page(): Promise<{ contentType: string; text: string }>
}

const REQUEST_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const UPSTREAM_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
const WORK_SECONDS = [1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900, 1_800, 3_600]
const DELIVERY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]

/** What is read from the database serves every scrape for this long; it is the same on all instances. */
const FRESH_MS = 5_000
/** A scrape must end although the database does not answer. */
const PATIENCE_MS = 3_000
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

export function createMetrics(options: {
  db: Db
  /** By name; what each label `pool` says. */
  pools: Record<string, Pool>
}): Metrics {
  const { db, pools } = options
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  // Gauges with the names of counters, and nothing that the others do not tell.
  for (const kind of ['handles', 'requests', 'resources'])
    registry.removeSingleMetric(`nodejs_active_${kind}_total`)

  const counter = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Counter<L>({ name, help, labelNames, registers })
  const gauge = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Gauge<L>({ name, help, labelNames, registers })
  const histogram = <L extends string>(name: string, help: string, buckets: number[], ...labelNames: L[]) =>
    new Histogram<L>({ name, help, buckets, labelNames, registers })

  gauge('reelgate_build_info', 'The version that runs', 'version').set({ version: VERSION }, 1)
  const requests = counter(
    'reelgate_http_requests_total',
    'Requests answered',
    'method',
    'route',
    'status',
    'platform',
  )
  const requestSeconds = histogram(
    'reelgate_http_request_duration_seconds',
    'From a request to the end of its answer; event streams are left out',
    REQUEST_SECONDS,
    'method',
    'route',
  )
  const upstreamCalls = counter('reelgate_upstream_calls_total', 'Calls to the backend', 'call', 'outcome')
  const upstreamSeconds = histogram(
    'reelgate_upstream_call_duration_seconds',
    'From a call to its answer; of a message, to the beginning of the answer',
    UPSTREAM_SECONDS,
    'call',
  )
  const sharedRefused = counter(
    'reelgate_shared_token_refusals_total',
    'Calls for which the backend refused the token that all users share',
  )
  const runsEnded = counter('reelgate_runs_ended_total', 'Runs that ended on this instance', 'state')
  const runSeconds = histogram('reelgate_run_duration_seconds', 'From a message to its end', WORK_SECONDS)
  const rendersEnded = counter('reelgate_renders_ended_total', 'Renders that ended on this instance', 'state')
  const renderSeconds = histogram(
    'reelgate_render_duration_seconds',
    'From the request for a render to the film',
    WORK_SECONDS,
  )
  const uploadsEnded = counter('reelgate_uploads_ended_total', 'Uploads that ended on this instance', 'state')
  // From 0 on, so that the first failure is an increase.
  for (const state of ['completed', 'failed', 'stopped']) runsEnded.inc({ state }, 0)
  for (const state of ['completed', 'failed', 'cancelled']) rendersEnded.inc({ state }, 0)
  for (const state of ['ready', 'failed']) uploadsEnded.inc({ state }, 0)
  const logEntries = counter('reelgate_log_entries_total', 'Entries appended to the log')
  const commitSeconds = histogram(
    'reelgate_log_transaction_duration_seconds',
    'Transactions that change rows and tell the log',
    REQUEST_SECONDS,
  )
  const deliverySeconds = histogram(
    'reelgate_log_delivery_delay_seconds',
    'From when an entry was written until this instance offers it to its readers',
    DELIVERY_SECONDS,
  )
  const readers = gauge('reelgate_readers', 'Open WebSockets and event streams of users')
  const connections = gauge('reelgate_db_pool_connections', 'Connections to Postgres', 'pool', 'state')
  const waiting = gauge('reelgate_db_pool_waiting_requests', 'Statements that wait for a connection', 'pool')
  const databaseUp = gauge('reelgate_database_up', 'Whether the database answered this scrape: 1 or 0')
  const byKind = {
    renders: gauge('reelgate_renders', 'Renders that have not ended; the same on every instance', 'state'),
    runs: gauge('reelgate_runs', 'Runs that have not ended; the same on every instance', 'state'),
    uploads: gauge('reelgate_uploads', 'Uploads that have not ended; the same on every instance', 'state'),
  }
  const oldest = gauge(
    'reelgate_oldest_active_seconds',
    'Age of the oldest one that has not ended; the same on every instance',
    'kind',
  )
  const pollLag = gauge(
    'reelgate_render_poll_lag_seconds',
    'How late the render is that has been due longest; the same on every instance',
  )
  const jobs = gauge('reelgate_queue_jobs', 'Jobs of a queue; the same on every instance', 'queue', 'state')
  const blockedKeys = gauge(
    'reelgate_queue_blocked_keys',
    'Projects whose jobs wait behind one that failed for good; the same on every instance',
    'queue',
  )
  const mintsLeft = gauge(
    'reelgate_mint_budget_remaining',
    'Tokens that may still be asked for this week (MINTS_PER_WEEK); the same on every instance',
  )
  const fromDatabase = [...Object.values(byKind), oldest, pollLag, jobs, blockedKeys, mintsLeft]

  let readAt = Number.NEGATIVE_INFINITY
  let reading: Promise<void> | null = null
  let readerCount = () => 0

  async function readDatabase() {
    const now = Date.now()
    const kinds = Object.keys(byKind) as Kind[]
    const [active, lag, queues, budget] = await Promise.all([
      Promise.all(kinds.map(kind => countActive(db, kind))),
      renderPollLagSeconds(db),
      readQueues(db),
      readMintBudget(db),
    ])
    for (const metric of fromDatabase) metric.reset()
    for (const [i, kind] of kinds.entries()) {
      for (const { state, count } of active[i]!) byKind[kind].set({ state }, count)
      const ages = active[i]!.map(({ oldestAt }) => (oldestAt ? now - oldestAt.getTime() : 0))
      oldest.set({ kind }, Math.max(0, ...ages) / 1_000)
    }
    pollLag.set(lag)
    for (const queue of queues) {
      for (const state of ['waiting', 'deferred', 'active', 'failed'] as const)
        jobs.set({ queue: queue.name, state }, queue[state])
      blockedKeys.set({ queue: queue.name }, queue.blockedKeys)
    }
    mintsLeft.set(budget.remaining)
    readAt = performance.now()
  }

  /** Says whether what is shown of the database is of now. What is not known is left out rather than shown as it was. */
  async function refresh() {
    if (performance.now() - readAt < FRESH_MS) return
    reading ??= readDatabase().finally(() => {
      reading = null
    })
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => late.reject(new Error('The database does not answer')), PATIENCE_MS)
    try {
      await Promise.race([reading, late.promise])
      databaseUp.set(1)
    } catch {
      databaseUp.set(0)
      for (const metric of fromDatabase) metric.reset()
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    answered({ method, route, status, platform, seconds }) {
      const known = METHODS.has(method) ? method : 'other'
      requests.inc({ method: known, route, status, platform })
      if (seconds !== null) requestSeconds.observe({ method: known, route }, seconds)
    },

    upstreamCalled(call, outcome, seconds) {
      upstreamCalls.inc({ call, outcome })
      upstreamSeconds.observe({ call }, seconds)
    },

    sharedTokenRefused: () => sharedRefused.inc(),

    committed(chunks, seconds) {
      commitSeconds.observe(seconds)
      logEntries.inc(chunks.length)
      for (const chunk of chunks) {
        if (chunk.type !== 'CUSTOM') continue
        const { state, createdAt, finishedAt, completedAt } = chunk.value as Told
        if (chunk.name === 'run.state' && finishedAt) {
          runsEnded.inc({ state })
          runSeconds.observe(secondsBetween(createdAt, finishedAt))
        } else if (chunk.name === 'render.updated' && /^(completed|failed|cancelled)$/.test(state)) {
          rendersEnded.inc({ state })
          if (completedAt) renderSeconds.observe(secondsBetween(createdAt, completedAt))
        } else if (chunk.name === 'upload.updated' && /^(ready|failed)$/.test(state)) {
          uploadsEnded.inc({ state })
        }
      }
    },

    offered(entries) {
      deliverySeconds.observe(Math.max(0, Date.now() - entries[0]!.at.getTime()) / 1_000)
    },

    countReaders(count) {
      readerCount = count
    },

    async page() {
      await refresh()
      readers.set(readerCount())
      for (const [name, { totalCount, idleCount, waitingCount }] of Object.entries(pools)) {
        connections.set({ pool: name, state: 'idle' }, idleCount)
        connections.set({ pool: name, state: 'busy' }, totalCount - idleCount)
        waiting.set({ pool: name }, waitingCount)
      }
      return { contentType: registry.contentType, text: await registry.metrics() }
    },
  }
}

interface Told {
  state: string
  createdAt: string
  finishedAt?: string
  completedAt?: string
}

const secondsBetween = (from: string, to: string) => Math.max(0, Date.parse(to) - Date.parse(from)) / 1_000
