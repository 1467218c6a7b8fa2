import { randomUUIDv7 } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Job } from 'pg-boss'
import { crashPoint } from '../../crash-points.ts'
import { lockProject } from '../../db/projects.ts'
import {
  countUnfinished,
  findAliased,
  findRequested,
  findRun,
  insertRun,
  listRuns,
  requestStop,
  stopRequests,
  updateRun,
} from '../../db/runs.ts'
import { asUser } from '../../db/tenants.ts'
import { notFound, ProblemError } from '../../problems.ts'
import type { Caller } from '../accounts/accounts.ts'
import { custom } from '../events/event.ts'
import type { Jobs, RunJob } from '../jobs/jobs.ts'
import { type List, listOf } from '../lists.ts'
import { createAdvance } from './advance.ts'
import { type Run, runFinished, runStarted, runStateEntry, toRun } from './run.ts'
import { isTerminal } from './states.ts'
import type { WorkOptions } from './work.ts'

const MAX_QUEUED = 10
const STOP_POLL_MS = 1_000
/** The state is read until it rests, which takes two reads and the time between them. */
const STOP_ANSWER_MS = 5_000

export interface Runs {
  /**
   * Queues a message. It is sent when its turn comes, whoever watches. The same `requestKey` or `alias` gives the
   * same run.
   */
  start(
    caller: Caller,
    projectId: string,
    message: { text: string; whenBusy: 'queue' | 'reject'; requestKey?: string; alias?: string },
  ): Promise<Run>
  get(userId: string, id: string): Promise<Run>
  list(userId: string, projectId: string, after: string | undefined, limit: number): Promise<List<Run>>
  /** Asks a run to stop and answers with what became of it: it may have been too late. */
  stop(userId: string, id: string): Promise<Run>
  /** The job: brings one run to its end. */
  work(job: Job<RunJob>, handOver: AbortSignal): Promise<void>
  close(): void
}

export function createRuns(
  options: WorkOptions & {
    jobs: Jobs
    /** Called after a run was queued here, so that it starts at once. */
    onQueued(): void
    /** Called after a run has ended here: what waited for it may go on. */
    onEnded(projectId: string): void
  },
): Runs {
  const { db, log, projects, jobs, onQueued, onEnded } = options
  const advance = createAdvance(options)
  const working = new Map<string, AbortController>()
  const stopPoll = setInterval(() => stopRequested().catch(() => {}), STOP_POLL_MS)

  async function own(userId: string, id: string) {
    const row = await findRun(db, userId, id)
    if (!row) throw notFound()
    return row
  }

  /** Another instance may have taken the user's wish to stop. */
  async function stopRequested() {
    if (working.size === 0) return
    for (const id of await stopRequests(db, [...working.keys()])) working.get(id)?.abort()
  }

  return {
    async start({ userId, platform }, projectId, { text, whenBusy, requestKey, alias }) {
      await projects.own(userId, projectId)
      const run = await log.transaction(async (tx, append) => {
        // Two messages at once are counted one after the other.
        const project = await lockProject(tx, projectId)
        if (!project) throw notFound()
        // The first request may have been answered by a process that died before the client heard of it.
        const key = requestKey ? `${projectId}:${requestKey}` : null
        const same =
          (key ? await findRequested(tx, userId, key) : undefined) ??
          (alias ? await findAliased(tx, projectId, alias) : undefined)
        if (same) return toRun(same)
        const { queued, active } = await countUnfinished(tx, projectId)
        if (whenBusy === 'reject' && queued + active > 0) throw new ProblemError('project_busy')
        if (queued >= MAX_QUEUED) throw new ProblemError('queue_full')
        const id = randomUUIDv7()
        const row = await insertRun(tx, {
          id,
          projectId,
          userId,
          platform,
          requestKey: key,
          alias: alias ?? null,
          acceptedSeq: project.lastSeq + 1,
          text,
          state: 'queued',
        })
        await append(projectId, [
          custom('message.accepted', { runId: id, text, intent: 'chat' }),
          runStateEntry(row),
        ])
        await jobs.enqueueRun(tx, { projectId, runId: id })
        return toRun(row)
      })
      crashPoint('run.after_accept')
      onQueued()
      return run
    },

    get: async (userId, id) => toRun(await own(userId, id)),

    async list(userId, projectId, after, limit) {
      await projects.own(userId, projectId)
      return listOf(limit, n => asUser(db, userId, own => listRuns(own, projectId, after, n)), toRun)
    },

    async stop(userId, id) {
      await own(userId, id)
      const asked = await log.transaction(async (tx, append) => {
        const row = await requestStop(tx, id)
        if (row?.state !== 'queued') return row
        const stopped = await updateRun(tx, id, { state: 'stopped', finishedAt: new Date() })
        await append(row.projectId, [runStateEntry(stopped)])
        // It never began, but who reads this run waits for its end.
        await append(row.projectId, [runStarted(row), runFinished(row, 'cancelled')], id)
        return stopped
      })
      working.get(id)?.abort()
      let run = asked ?? (await own(userId, id))
      for (const end = Date.now() + STOP_ANSWER_MS; !isTerminal(run.state) && Date.now() < end; ) {
        await sleep(50)
        run = await own(userId, id)
      }
      return toRun(run)
    },

    async work(job, handOver) {
      const { runId, projectId } = job.data
      const stop = new AbortController()
      working.set(runId, stop)
      try {
        await advance(job.data, job.retryCount + 1, { stop: stop.signal, handOver })
        crashPoint('run.after_end')
        await jobs.completeRun(job)
      } finally {
        // A later attempt of the same run may have come to this instance.
        if (working.get(runId) === stop) working.delete(runId)
        onEnded(projectId)
      }
    },

    close() {
      clearInterval(stopPoll)
    },
  }
}
