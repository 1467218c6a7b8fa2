import type { Job } from 'pg-boss'
import type { Metrics } from './metrics.ts'
import type { Chunk } from './services/events/event.ts'
import type { Append, EventLog } from './services/events/log.ts'
import type { Jobs, Queue, Traced } from './services/jobs/jobs.ts'
import type { RenderTrace } from './services/renders/renders.ts'
import type { UpstreamClient } from './services/upstream/client.ts'
import type { Outcome } from './services/upstream/failures.ts'
import type { Tracing } from './tracing.ts'

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

/** The same jobs; each goes on in the trace of the request that asked for it, in whichever instance works on it. */
export function observeJobs(jobs: Jobs, tracing: Pick<Tracing, 'begin'> | null): Jobs {
  if (!tracing) return jobs
  return {
    ...jobs,
    work: ({ run, copy, ...handlers }) =>
      jobs.work({
        ...handlers,
        run: traced(tracing, 'run', run),
        ...(copy && { copy: traced(tracing, 'copy', copy) }),
      }),
    async queue<T extends object>(name: string) {
      const queue = await jobs.queue<T>(name)
      // A queue for each spool: "forwards-…" holds jobs that are a "forward".
      const [kind = name] = name.split(/s?-/)
      return {
        ...queue,
        work: (capacity, handle) => queue.work(capacity, traced(tracing, kind, handle)),
      } satisfies Queue<T>
    },
  }
}

function traced<T extends object, Rest extends unknown[]>(
  tracing: Pick<Tracing, 'begin'>,
  name: string,
  work: (job: Job<T>, ...rest: Rest) => Promise<void>,
): typeof work {
  return (job, ...rest) => {
    const { traceparent, ...ids } = job.data as Traced & Record<string, string>
    const attributes = { ...named(ids), 'reelgate.attempt': (job.retryCount ?? 0) + 1 }
    return within(tracing.begin(name, { kind: 'consumer', traceparent, attributes }), () =>
      work(job, ...rest),
    )
  }
}

/** The steps of renders whose request was traced: thousands of others may be looked at beside them. */
export function observeRenders(tracing: Pick<Tracing, 'begin' | 'traceparent'>): RenderTrace {
  return {
    traceparent: tracing.traceparent,
    async step({ id, projectId, state, attempts, polls, traceparent }, work) {
      if (traceparent === null) return work()
      const attributes = {
        ...named({ renderId: id, projectId }),
        'reelgate.render.state': state,
        'reelgate.render.attempts': attempts,
        'reelgate.render.polls': polls,
      }
      return within(tracing.begin('render', { kind: 'consumer', traceparent, attributes }), work)
    },
  }
}

async function within(span: ReturnType<Tracing['begin']>, work: () => Promise<void>): Promise<void> {
  let failed = true
  try {
    await span.enter(work)
    failed = false
  } finally {
    span.end({}, failed)
  }
}

/** `{ runId }` as the attribute `reelgate.run.id`. */
function named(ids: Record<string, string>) {
  return Object.fromEntries(
    Object.entries(ids).map(([name, id]) => [`reelgate.${name.replace(/Id$/, '')}.id`, id]),
  )
}
