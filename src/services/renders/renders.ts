import { randomUUIDv7 } from 'node:crypto'
import { crashPoint } from '../../crash-points.ts'
import type { Db } from '../../db/client.ts'
import type { ProjectRow } from '../../db/projects.ts'
import {
  cancelQueued,
  findRender,
  findRequestedRender,
  findWanted,
  hurryQueued,
  insertRender,
  listRenders,
  lockProjectOf,
  type RenderRow,
  type RenderView,
  requestCancel,
  requeueFailed,
} from '../../db/renders.ts'
import { countUnfinished } from '../../db/runs.ts'
import { notFound, ProblemError } from '../../problems.ts'
import type { Accounts, Caller } from '../accounts/accounts.ts'
import type { EventLog } from '../events/log.ts'
import type { CopyJob } from '../jobs/jobs.ts'
import { type List, listOf } from '../lists.ts'
import { holderOf, type Projects } from '../projects.ts'
import { decodeDraft } from '../timeline/draft.ts'
import type { Timelines } from '../timeline/timeline.ts'
import type { ProjectState, UpstreamClient } from '../upstream/client.ts'
import { createAdvance } from './advance.ts'
import type { Copies } from './copies.ts'
import { createFile, type FileAnswer, type FileRequest } from './file.ts'
import { nothingToExport } from './problems.ts'
import { type Claim, createRecord } from './record.ts'
import { createRecover } from './recover.ts'
import { type Render, renderUpdated, toRender } from './render.ts'
import { isTerminal, type RenderStateName } from './states.ts'
import { createWorker, type Worker } from './worker.ts'

export type { Render } from './render.ts'

// With the pause between two looks for what is due, a dead worker's renders are another's within 15 s.
const LEASE_MS = 12_000
const COPY_MS = 30 * 60_000
const ALL = { range: null, ifRange: null, ifNoneMatch: null }

/** The trace of a render. */
export interface RenderTrace {
  /** Names the one that is under way, to be kept with the render. */
  traceparent(): string | undefined
  /** What a worker does for a render that it has claimed. */
  step(render: RenderRow, work: () => Promise<void>): Promise<void>
}

export interface Renders extends Omit<Worker, 'wake'> {
  /**
   * Exports the project as it is once the messages sent before are done. Throws `nothing_to_export`, or what keeps
   * the user's account from reading the project. The same `requestKey` gives the same render.
   */
  create(
    caller: Caller,
    projectId: string,
    a?: { format?: string; quality?: string; requestKey?: string },
  ): Promise<Render>
  /** Newest first. */
  list(
    userId: string,
    a: { state?: RenderStateName; projectId?: string; after?: string; limit: number },
  ): Promise<List<Render>>
  get(userId: string, id: string): Promise<Render>
  /** A queued render is cancelled at once. One at work is asked to stop, and may still complete: its events tell. */
  cancel(userId: string, id: string): Promise<Render>
  /** One attempt more with the draft it had, unless it was lost and is found now; throws `not_failed`. */
  retry(caller: Caller, id: string): Promise<Render>
  /** Opens the finished file, also that of a render that was given up too early; throws `not_ready`. */
  file(userId: string, id: string, request: FileRequest): Promise<FileAnswer>
  /** Looks now for what is due; with a project whose run has ended, also at what waited for the run. */
  wake(projectId?: string): void
  /** The job: keeps a copy of a finished film, while anybody may still ask for it. Throws when it must be tried again. */
  copy(job: { data: CopyJob }): Promise<void>
  /** Removes the copies of films that nobody can ask for any more. */
  sweepCopies(): Promise<void>
}

export function createRenders(options: {
  db: Db
  log: EventLog
  accounts: Accounts
  projects: Projects
  timelines: Timelines
  upstream: UpstreamClient
  pollMs: number
  onError(error: unknown): void
  leaseMs?: number
  /** How a render's steps go on in the trace of the request for it; absent, there are no traces. */
  trace?: RenderTrace
  /** Where copies of finished films are kept, and how one is asked for inside a transaction. */
  keep?: { copies: Copies; enqueue(tx: Db, renderId: string): Promise<void> }
}): Renders {
  const { db, log, accounts, projects, timelines, onError, leaseMs = LEASE_MS, keep, trace } = options
  const onCompleted = keep ? { onCompleted: keep.enqueue } : {}
  const record = createRecord({ db, log, timelines, leaseMs, ...onCompleted })
  const step = createAdvance({ ...options, record })
  const advance = trace ? (claim: Claim) => trace.step(claim.render, () => step(claim)) : step
  const worker = createWorker({ db, record, advance, onError })
  const files = createFile({ ...options, copies: keep?.copies ?? null })
  const recover = createRecover({ ...options, ...onCompleted })

  async function own(userId: string, id: string): Promise<RenderView> {
    const row = await findRender(db, userId, id)
    if (!row) throw notFound()
    return row
  }

  const show = (row: RenderView) => toRender(row, row.projectRevision)

  /** Null: it is too early to read, or the upstream does not answer now; the worker will read it. */
  async function readDraft(project: ProjectRow, caller: Caller): Promise<ProjectState | null> {
    const { queued, active } = await countUnfinished(db, project.id)
    if (queued + active > 0) return null
    // Nobody has spoken to the upstream of this project yet; asking would mint a token for nothing.
    if (!project.sessionId) throw nothing(project.language)
    const read = await timelines.read(project, caller)
    if (read.kind === 'auth' || read.kind === 'refused')
      return accounts.valueOrThrow(read, holderOf(project, caller), project.language)
    return read.kind === 'ok' ? read.value : null
  }

  return {
    advanceDue: worker.advanceDue,
    start: worker.start,
    stop: worker.stop,

    wake(projectId) {
      if (!projectId) return worker.wake()
      hurryQueued(db, projectId).then(worker.wake, onError)
    },

    async create(caller, projectId, { format = 'mp4', quality = 'high', requestKey } = {}) {
      const { userId, platform } = caller
      const project = await projects.own(userId, projectId)
      // A client may use a key once in each project.
      const key = requestKey ? `${projectId}:${requestKey}` : null
      const same = key ? await findRequestedRender(db, userId, key) : undefined
      if (same) return show(same)
      const state = await readDraft(project, caller)
      const exportable = state === null || decodeDraft(state.draft).exportable
      const render = await log.transaction(async (tx, append) => {
        const locked = await lockProjectOf(tx, projectId)
        if (!locked) throw notFound()
        const same = key ? await findRequestedRender(tx, userId, key) : undefined
        if (same) return show(same)
        const { revision } = state ? (await timelines.observe(tx, append, projectId, state)).project : locked
        if (!exportable) return null
        const row = await insertRender(tx, {
          id: randomUUIDv7(),
          projectId,
          userId,
          platform,
          format,
          quality,
          revision,
          draft: state?.draft ?? null,
          requestKey: key,
          traceparent: trace?.traceparent() ?? null,
        })
        await append(projectId, [renderUpdated(row, revision)])
        return toRender(row, revision)
      })
      if (!render) throw nothing(project.language)
      crashPoint('render.after_create')
      worker.wake()
      return render
    },

    list: (userId, { limit, ...filter }) =>
      listOf(limit, n => listRenders(db, userId, { ...filter, limit: n }), show),

    get: async (userId, id) => show(await own(userId, id)),

    async cancel(userId, id) {
      const row = await own(userId, id)
      if (isTerminal(row.state)) return show(row)
      const cancelled = await log.transaction(async (tx, append) => {
        const project = await lockProjectOf(tx, row.projectId)
        const cancelled = await cancelQueued(tx, id)
        if (!cancelled || !project) {
          await requestCancel(tx, id)
          return null
        }
        await hurryQueued(tx, row.projectId)
        await append(row.projectId, [renderUpdated(cancelled, project.revision)])
        return toRender(cancelled, project.revision)
      })
      worker.wake()
      return cancelled ?? show(await own(userId, id))
    },

    async retry({ userId, platform }, id) {
      const known = await own(userId, id)
      const { projectId } = known
      const recovered = await recover(known)
      if (recovered) return toRender(recovered, known.projectRevision)
      const render = await log.transaction(async (tx, append) => {
        const project = await lockProjectOf(tx, projectId)
        const row = await requeueFailed(tx, id, { platform, traceparent: trace?.traceparent() ?? null })
        if (!row || !project) throw new ProblemError('not_failed')
        await append(projectId, [renderUpdated(row, project.revision)])
        return toRender(row, project.revision)
      })
      worker.wake()
      return render
    },

    async copy({ data: { renderId: id } }) {
      const [render] = await findWanted(db, [id])
      if (!render || !keep) return
      const limit = AbortSignal.timeout(COPY_MS)
      const film = await files.film(render, { ...ALL, signal: limit })
      if (film.kind !== 'ok' || film.value.status !== 200) throw new Error(`No film to copy: ${film.kind}`)
      await keep.copies.keep(id, film.value)
    },

    async sweepCopies() {
      await keep?.copies.sweep(async ids => (await findWanted(db, ids)).map(({ id }) => id))
    },

    async file(userId, id, request) {
      const known = await own(userId, id)
      const row = (await recover(known)) ?? known
      if (row.state !== 'completed') throw new ProblemError('not_ready')
      return files.file(row, await projects.own(userId, row.projectId), request)
    },
  }
}

function nothing(language: string): ProblemError {
  return new ProblemError('nothing_to_export', nothingToExport(language).detail)
}
