import { sql } from 'drizzle-orm'
import { fromDrizzle, type Job, PgBoss } from 'pg-boss'
import type { Db } from '../../db/client.ts'
import { createDispatcher, type Dispatcher } from './dispatcher.ts'

const RUNS = 'runs'
const SWEEP = 'sweep'

/** A job never holds state: it names the thing to advance. */
export interface RunJob {
  projectId: string
  runId: string
  /** The trace that the message was accepted in (W3C). */
  traceparent?: string | undefined
}

export interface Jobs {
  /** Queues a run inside `tx`: it exists if and only if the run does. Runs of a project go one after the other. */
  enqueueRun(tx: Db, job: RunJob): Promise<void>
  /** Ends a run's job, which lets the project's next one begin. Nothing happens when another attempt has it. */
  completeRun(job: Job<RunJob>): Promise<void>
  /** Starts working on runs, and sweeping once a minute. */
  work(handlers: {
    run(job: Job<RunJob>, signal: AbortSignal): Promise<void>
    sweep(): Promise<void>
  }): Promise<Dispatcher>
  stop(): Promise<void>
}

const CONCURRENT_RUNS = 200

/** pg-boss in its own schema `jobs`. A worker that dies is noticed within 15 s. */
export async function createJobs(options: {
  url: string
  onError(error: unknown): void
  /** Names the trace that goes on in the job. */
  traceparent?: (() => string | undefined) | undefined
}): Promise<Jobs> {
  const boss = new PgBoss({
    connectionString: options.url,
    application_name: 'reelgate jobs',
    schema: 'jobs',
    max: 4,
    superviseIntervalSeconds: 5,
    monitorIntervalSeconds: 5,
    persistQueueStats: true,
    persistWarnings: true,
  })
  boss.on('error', options.onError)
  await boss.start()
  await boss.createQueue(RUNS, {
    // The only policy that keeps both order and exclusion per key when attempts fail.
    policy: 'key_strict_fifo',
    heartbeatSeconds: 10,
    // A head that failed for good would block its project for ever; a permanent failure is told in our row instead.
    retryLimit: 1_000,
    retryDelay: 1,
    retryBackoff: true,
    retryDelayMax: 30,
    expireInSeconds: 86_400 - 1,
    deleteAfterSeconds: 86_400,
  })
  await boss.createQueue(SWEEP, { policy: 'singleton', retryLimit: 0, deleteAfterSeconds: 3_600 })

  return {
    async enqueueRun(tx, job) {
      const traceparent = options.traceparent?.()
      await boss.send(RUNS, traceparent ? { ...job, traceparent } : job, {
        singletonKey: job.projectId,
        db: fromDrizzle(tx, sql),
      })
    },

    async completeRun(job) {
      await boss.complete(RUNS, job)
    },

    async work({ run, sweep }) {
      await boss.schedule(SWEEP, '* * * * *')
      await boss.work(SWEEP, { pollingIntervalSeconds: 15 }, () => sweep())
      return createDispatcher<RunJob>({
        boss,
        queue: RUNS,
        capacity: CONCURRENT_RUNS,
        handle: run,
        onError: options.onError,
      })
    },

    stop: () => boss.stop({ graceful: true, timeout: 2_000 }),
  }
}
