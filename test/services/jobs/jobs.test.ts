import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { sql } from 'drizzle-orm'
import type { Job } from 'pg-boss'
import t, { type Test } from 'tap'
import type { Dispatcher } from '../../../src/services/jobs/dispatcher.ts'
import { createJobs, type RunJob } from '../../../src/services/jobs/jobs.ts'
import { testDatabase } from '../../helpers/database.ts'
import { until } from '../../helpers/gateway.ts'

// Most of the time here is spent on waiting for the queue.
t.jobs = 3

type Handle = (job: Job<RunJob>, signal: AbortSignal) => Promise<void>

async function setStage(t: Test) {
  const { url, database } = await testDatabase(t)
  const { db } = database
  const errors: unknown[] = []

  /** One process of reelgate: its queue, and a worker that ends its jobs when `handle` is through. */
  async function createInstance() {
    const jobs = await createJobs({ url, onError: error => errors.push(error) })
    const dispatchers: Dispatcher[] = []
    t.teardown(async () => {
      for (const dispatcher of dispatchers) await dispatcher.stop(0)
      await jobs.stop()
    })
    return {
      ...jobs,
      async work(handle: Handle) {
        const dispatcher = await jobs.work({
          async run(job, signal) {
            await handle(job, signal)
            await jobs.completeRun(job)
          },
          sweep: async () => {},
        })
        dispatchers.push(dispatcher)
        return dispatcher
      },
    }
  }

  const instance = await createInstance()
  const enqueue = async (projectId: string) => {
    const runId = randomUUID()
    await db.transaction(tx => instance.enqueueRun(tx, { projectId, runId }))
    return runId
  }
  const states = async () => {
    const { rows } = await db.execute<{ state: string }>(
      sql`select state from jobs.job where name = 'runs' order by created_on`,
    )
    return rows.map(({ state }) => state)
  }
  return { ...instance, createInstance, enqueue, states, errors, db }
}

t.test('a job exists if and only if what it is about does', async t => {
  const { enqueueRun, work, db, errors } = await setStage(t)
  const seen: string[] = []
  const dispatcher = await work(async job => void seen.push(job.data.runId))
  const rolledBack = db.transaction(async tx => {
    await enqueueRun(tx, { projectId: 'p', runId: 'never' })
    throw new Error('no')
  })
  await t.rejects(rolledBack, { message: 'no' })
  await db.transaction(async tx => {
    await enqueueRun(tx, { projectId: 'p', runId: 'kept' })
    dispatcher.wake()
    await new Promise(resolve => setTimeout(resolve, 50))
    t.same(seen, [], 'not before the commit')
  })
  dispatcher.wake()
  await until(async () => seen.length > 0)
  t.same(seen, ['kept'])
  t.same(errors, [])
})

t.test(
  'runs of a project go one after the other, in order, on two instances; projects do not wait',
  async t => {
    const { work, createInstance, enqueue, errors } = await setStage(t)
    const other = await createInstance()
    const projects = ['a', 'b', 'c']
    const queued = new Map<string, string[]>(projects.map(project => [project, []]))
    for (let i = 0; i < 4; i++)
      for (const project of projects) queued.get(project)!.push(await enqueue(project))

    const done = new Map<string, string[]>(projects.map(project => [project, []]))
    const busy = new Set<string>()
    const overlaps: string[] = []
    let most = 0
    const handle: Handle = async ({ data: { projectId, runId } }) => {
      if (busy.has(projectId)) overlaps.push(runId)
      busy.add(projectId)
      most = Math.max(most, busy.size)
      await new Promise(resolve => setTimeout(resolve, 20))
      busy.delete(projectId)
      done.get(projectId)!.push(runId)
    }
    const dispatchers = await Promise.all([work(handle), other.work(handle)])
    const ended = () => [...done.values()].flat().length
    // Each instance wakes only itself after a job: the other would find the next one at its poll.
    await until(async () => {
      for (const dispatcher of dispatchers) dispatcher.wake()
      return ended() === 12
    })
    t.same(done, queued)
    t.same(overlaps, [])
    t.equal(most, 3, 'the three projects at once')
    t.same(errors, [])
  },
)

t.test('a run that failed is tried again before the next one of its project', async t => {
  const { work, enqueue, errors } = await setStage(t)
  const [first, second] = [await enqueue('a'), await enqueue('a')]
  const seen: [string, number][] = []
  const dispatcher = await work(async job => {
    seen.push([job.data.runId, job.retryCount])
    if (seen.length === 1) throw new Error('the database went away')
  })
  await until(async () => {
    dispatcher.wake()
    return seen.length === 3
  })
  t.same(seen, [
    [first, 0],
    [first, 1],
    [second, 0],
  ])
  t.match(errors, [{ message: 'the database went away' }])
})

t.test('a stop lets the work end, and takes no more', async t => {
  const { work, enqueue, states, errors } = await setStage(t)
  const [started, finish] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const seen: string[] = []
  await enqueue('a')
  const dispatcher = await work(async (job, signal) => {
    seen.push(job.data.projectId)
    started.resolve()
    await finish.promise
    t.notOk(signal.aborted, 'in its own time')
  })
  await started.promise
  // A fetch that is under way may still bring a job.
  await new Promise(resolve => setTimeout(resolve, 200))
  const stopped = dispatcher.stop(10_000)
  await enqueue('b')
  dispatcher.wake()
  finish.resolve()
  await stopped
  t.same(seen, ['a'])
  t.same(await states(), ['completed', 'created'])
  t.same(errors, [])
})

t.test('a stop that takes too long hands over to another instance', async t => {
  const { work, createInstance, enqueue, errors } = await setStage(t)
  const other = await createInstance()
  const runId = await enqueue('a')
  const started = Promise.withResolvers<void>()
  const dispatcher = await work(async (_, signal) => {
    started.resolve()
    await once(signal, 'abort')
    throw new Error('This instance is going down')
  })
  await started.promise
  const before = Date.now()
  await dispatcher.stop(30)
  t.ok(Date.now() - before < 1_000)
  const taken: Job<RunJob>[] = []
  const next = await other.work(async job => void taken.push(job))
  await until(async () => {
    next.wake()
    return taken.length > 0
  })
  t.match(taken, [{ data: { runId }, retryCount: 1 }])
  t.same(errors, [], 'nothing went wrong')
})

t.test('an attempt that lost its job cannot end it, nor does its end hide the next one', async t => {
  const { work, completeRun, enqueue, states, db, errors } = await setStage(t)
  const attempts: { job: Job<RunJob>; end: () => void }[] = []
  await enqueue('a')
  const dispatcher = await work(async job => {
    const { promise, resolve } = Promise.withResolvers<void>()
    attempts.push({ job, end: resolve })
    await promise
  })
  const started = (count: number) =>
    until(async () => {
      dispatcher.wake()
      return attempts.length === count
    })
  await started(1)
  // As the monitor does with a worker that was not heard of; the same instance finds the job again.
  await db.execute(sql`update jobs.job set state = 'retry', start_after = now() where name = 'runs'`)
  await started(2)
  const [first, second] = attempts
  t.same(
    attempts.map(({ job }) => job.retryCount),
    [0, 1],
  )
  first!.end()
  await completeRun(first!.job)
  t.same(await states(), ['active'], 'it is the second one’s')

  let stopped = false
  const stopping = dispatcher.stop(20_000).then(() => {
    stopped = true
  })
  await new Promise(resolve => setTimeout(resolve, 100))
  t.notOk(stopped, 'a stop waits for it')
  second!.end()
  await stopping
  t.same(await states(), ['completed'])
  t.same(errors, [])
})
