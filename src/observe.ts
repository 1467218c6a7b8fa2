import type { Metrics } from './metrics.ts'
import type { Chunk } from './services/events/event.ts'
import type { Append, EventLog } from './services/events/log.ts'
import type { Runs } from './services/runs/runs.ts'
import type { UpstreamClient } from './services/upstream/client.ts'
import type { Outcome } from './services/upstream/failures.ts'
import type { Tracing } from './tracing.ts'

type RunWorker = Runs['work']

/** Who looks on. Either may be absent; without both the parts are used as they are, and cost nothing more. */
export interface Observers {
  metrics: Pick<Metrics, 'upstreamCalled' | 'committed'> | null
  tracing: Pick<Tracing, 'span'> | null
}

/** The same client; each call is counted by its outcome, and is a span of the trace it is made in. */
export function observeUpstream(upstream: UpstreamClient, { metrics, tracing }: Observers): UpstreamClient {
  if (!metrics && !tracing) return upstream

  async function count(call: string, ask: () => Promise<Outcome<unknown>>) {
    const startedAt = performance.now()
    let outcome = 'error'
    try {
      const answer = await ask()
      outcome = answer.kind
      return answer
    } finally {
      metrics?.upstreamCalled(call, outcome, (performance.now() - startedAt) / 1_000)
    }
  }

  type Call = (...args: unknown[]) => Promise<Outcome<unknown>>
  const observed = Object.entries(upstream).map(([call, method]) => {
    const ask: Call = (...args) => count(call, () => (method as Call)(...args))
    if (call === 'close') return [call, method]
    if (!tracing) return [call, ask]
    const traced: Call = (...args) =>
      tracing.span(`upstream ${call}`, { kind: 'client' }, async set => {
        const outcome = await ask(...args)
        set({ 'reelgate.outcome': outcome.kind })
        return outcome
      })
    return [call, traced]
  })
  return Object.fromEntries(observed) as UpstreamClient
}

/** The same log; what each transaction tells is counted once it is committed, and is a span of its trace. */
export function observeLog(log: EventLog, { metrics, tracing }: Observers): EventLog {
  if (!metrics && !tracing) return log

  const transaction: EventLog['transaction'] = async work => {
    const startedAt = performance.now()
    const told: Chunk[] = []
    const result = await log.transaction((tx, append) => {
      const tell: Append = async (projectId, chunks, runId) => {
        await append(projectId, chunks, runId)
        told.push(...chunks)
      }
      return work(tx, tell)
    })
    metrics?.committed(told, (performance.now() - startedAt) / 1_000)
    return result
  }
  const write: EventLog['write'] = async batch => {
    const startedAt = performance.now()
    const held = await log.write(batch)
    metrics?.committed(held ? batch.chunks : [], (performance.now() - startedAt) / 1_000)
    return held
  }
  return {
    ...log,
    get epoch() {
      return log.epoch
    },
    ...(tracing
      ? {
          transaction: work => tracing.span('log append', {}, () => transaction(work)),
          write: batch => tracing.span('log append', {}, () => write(batch)),
        }
      : { transaction, write }),
  }
}

/** The worker of runs; each run goes on in the trace of the request that sent its message. */
export function traced(tracing: Tracing | null, work: RunWorker): RunWorker {
  if (!tracing) return work
  return async (job, signal) => {
    const { runId, projectId, traceparent } = job.data
    const span = tracing.begin('run', {
      kind: 'consumer',
      traceparent,
      attributes: {
        'reelgate.run.id': runId,
        'reelgate.project.id': projectId,
        'reelgate.attempt': job.retryCount + 1,
      },
    })
    let failed = true
    try {
      await span.enter(() => work(job, signal))
      failed = false
    } finally {
      span.end({}, failed)
    }
  }
}
