import { setTimeout as sleep } from 'node:timers/promises'
import type { Job, PgBoss } from 'pg-boss'

const POLL_MS = 1_000
const TOUCH_MS = 3_000

export interface Dispatcher {
  /** Looks for jobs now instead of at the next poll. */
  wake(): void
  /**
   * Takes no more jobs, lets those at work end for `graceMs`, then aborts their signals so that they hand over:
   * whoever fetches them next goes on from the rows.
   */
  stop(graceMs: number): Promise<void>
}

/**
 * Holds up to `capacity` long jobs at once. One fetch takes them all and one touch keeps them all alive, where
 * pg-boss's own workers would poll and beat for each. `handle` completes its job itself, with the rows it writes.
 */
export function createDispatcher<T extends object>(options: {
  boss: PgBoss
  queue: string
  capacity: number
  handle(job: Job<T>, signal: AbortSignal): Promise<void>
  onError(error: unknown): void
}): Dispatcher {
  const { boss, queue, capacity, handle, onError } = options
  // Not by the job's id: an attempt that lost its job may still be ending when this instance has the next one.
  const working = new Map<Job<T>, Promise<void>>()
  const stopping = new AbortController()
  const handOver = new AbortController()
  let woken = Promise.withResolvers<void>()
  const loop = dispatch()
  const beat = setInterval(() => touch().catch(onError), TOUCH_MS)

  async function dispatch() {
    while (!stopping.signal.aborted) {
      woken = Promise.withResolvers<void>()
      const free = capacity - working.size
      const jobs = free > 0 ? await boss.fetch<T>(queue, { batchSize: free }).catch(failed) : []
      for (const job of jobs) working.set(job, work(job))
      if (jobs.length === 0) await Promise.race([woken.promise, sleep(POLL_MS, undefined, { ref: false })])
    }
  }

  async function work(job: Job<T>) {
    try {
      await handle(job, handOver.signal)
    } catch (error) {
      if (!handOver.signal.aborted) onError(error)
      // Back into the queue: the next attempt reads from the rows how far this one came.
      await boss.fail(queue, job, { message: String((error as Error)?.message ?? error) }).catch(onError)
    } finally {
      working.delete(job)
      wake()
    }
  }

  async function touch() {
    if (working.size > 0) await boss.touch(queue, [...working.keys()])
  }

  function failed(error: unknown): Job<T>[] {
    onError(error)
    return []
  }

  function wake() {
    woken.resolve()
  }

  return {
    wake,
    async stop(graceMs) {
      stopping.abort()
      wake()
      await loop
      const ended = () => Promise.all(working.values())
      const grace = new AbortController()
      await Promise.race([ended(), sleep(graceMs, undefined, { signal: grace.signal }).catch(() => {})])
      grace.abort()
      handOver.abort()
      await ended()
      clearInterval(beat)
    },
  }
}
