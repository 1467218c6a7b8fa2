import { sql } from 'drizzle-orm'
import { fromDrizzle, type Job, PgBoss } from 'pg-boss'
import type { Db } from '../../db/client.ts'
import { createDispatcher, type Dispatcher } from './dispatcher.ts'

const RUNS = 'runs'
const COPIES = 'copies'
const SWEEP = 'sweep'

/** What every job may carry: the trace that it was asked for in (W3C). */
export interface Traced {
  traceparent?: string | undefined
}

/** A job never holds state: it names the thing to advance. */
export interface RunJob extends Traced {
  projectId: string
  runId: string
}

export interface CopyJob extends Traced {
  renderId: string
}

export interface Jobs {
  /** Queues a run inside `tx`: it exists if and only if the run does. Runs of a project go one after the other. */
  enqueueRun(tx: Db, job: RunJob): Promise<void>
  /** Asks inside `tx` for a copy of a finished film. */
  enqueueCopy(tx: Db, renderId: string): Promise<void>
  /** Ends a run's job, which lets the project's next one begin. Nothing happens when another attempt has it. */
  completeRun(job: Job<RunJob>): Promise<void>
  /** Starts working on runs, and sweeping once a minute. */
  work(handlers: {
    run(job: Job<RunJob>, signal: AbortSignal): Promise<void>
    copy?(job: Job<CopyJob>): Promise<void>
    sweep(): Promise<void>
  }): Promise<Dispatcher>
  /** One more queue like that of the runs: jobs of a `key` go one after the other, in order, whoever takes them. */
  queue<T extends object>(name: string): Promise<Queue<T>>
  stop(): Promise<void>
}

export interface Queue<T extends object> {
  /** Queues a job inside `tx`. */
  enqueue(tx: Db, key: string, job: T): Promise<void>
  /** Ends a job. Nothing happens when another attempt has it. */
  complete(job: Job<T>): Promise<void>
  /** A job whose `handle` throws is given out again; `handle` completes those that are done. */
  work(capacity: number, handle: (job: Job<T>, signal: AbortSignal) => Promise<void>): Dispatcher
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
    // With the heartbeat's 10 s, the retry's delay and the dispatcher's poll, a dead worker's run goes on within 15 s.
    superviseIntervalSeconds: 1,
    monitorIntervalSeconds: 1,
  })
  boss.on('error', options.onError)
  await boss.start()
  const inOrder = {
    // The only policy that keeps both order and exclusion per key when attempts fail.
    policy: 'key_strict_fifo' as const,
    heartbeatSeconds: 10,
    // A head that failed for good would block its project for ever; a permanent failure is told in our row instead.
    retryLimit: 1_000,
    retryDelay: 1,
    retryBackoff: true,
    retryDelayMax: 30,
    expireInSeconds: 86_400 - 1,
    deleteAfterSeconds: 86_400,
  }
  await boss.createQueue(RUNS, inOrder)
  await boss.createQueue(COPIES, {
    heartbeatSeconds: 10,
    retryLimit: 30,
    retryDelay: 5,
    retryBackoff: true,
    retryDelayMax: 3_600,
    expireInSeconds: 3_600,
    deleteAfterSeconds: 86_400,
  })
  await boss.createQueue(SWEEP, { policy: 'singleton', retryLimit: 0, deleteAfterSeconds: 3_600 })

  const traced = <T extends object>(job: T): T & Traced => {
    const traceparent = options.traceparent?.()
    return traceparent ? { ...job, traceparent } : job
  }

  return {
    async enqueueRun(tx, job) {
      await boss.send(RUNS, traced(job), { singletonKey: job.projectId, db: fromDrizzle(tx, sql) })
    },

    async enqueueCopy(tx, renderId) {
      await boss.send(COPIES, traced({ renderId }), { db: fromDrizzle(tx, sql) })
    },

    async completeRun(job) {
      await boss.complete(RUNS, job)
    },

    async work({ run, copy, sweep }) {
      await boss.schedule(SWEEP, '* * * * *')
      await boss.work(SWEEP, { pollingIntervalSeconds: 15 }, () => sweep())
      if (copy)
        await boss.work<CopyJob>(COPIES, { pollingIntervalSeconds: 2 }, async ([job]) => {
          if (job) await copy(job)
        })
      return createDispatcher<RunJob>({
        boss,
        queue: RUNS,
        capacity: CONCURRENT_RUNS,
        handle: run,
        onError: options.onError,
      })
    },

    async queue<T extends object>(name: string) {
      await boss.createQueue(name, inOrder)
      return {
        async enqueue(tx, key, job) {
          await boss.send(name, traced(job), { singletonKey: key, db: fromDrizzle(tx, sql) })
        },
        async complete(job) {
          await boss.complete(name, job)
        },
        work: (capacity, handle) =>
          createDispatcher<T>({ boss, queue: name, capacity, handle, onError: options.onError }),
      } satisfies Queue<T>
    },

    stop: () => boss.stop({ graceful: true, timeout: 2_000 }),
  }
}
