import { setTimeout as sleep } from 'node:timers/promises'
import type { Job } from 'pg-boss'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/client.ts'
import type { Locks } from '../../db/locks.ts'
import { loadProject, type ProjectRow } from '../../db/projects.ts'
import { deleteSpool, loadSpooled, recordNotSent, recordSent, type SpooledRow } from '../../db/spools.ts'
import { passed } from '../../memory.ts'
import type { Accounts, Caller } from '../accounts/accounts.ts'
import { holderOf, type Projects } from '../projects.ts'
import type { Timelines } from '../timeline/timeline.ts'
import type { Media, ProjectState, UpstreamClient } from '../upstream/client.ts'
import type { Failure, Outcome } from '../upstream/failures.ts'
import { upstreamName } from './filenames.ts'
import type { Look } from './look.ts'
import { mediaTypeOfName } from './media-types.ts'
import { type Ending, fileProblem, type Records } from './records.ts'
import type { Spool } from './spool.ts'
import { uploadedMedia } from './upload.ts'

export interface ForwardJob {
  uploadId: string
}

const LOCK_WAIT_MS = 5_000
const LONGEST_WAIT_MS = 30_000

/** It goes on with the next attempt of the job. */
class NotYetError extends Error {
  override readonly name = 'NotYetError'
}

/**
 * Sends a received upload on from the spool. The intent is written before the first byte leaves; when nobody knows
 * whether the whole file arrived, the project is read until it is known, and only then is the file sent again. The
 * file goes after the answer has been recorded.
 */
export function createForward(options: {
  db: Db
  records: Records
  accounts: Accounts
  projects: Projects
  timelines: Timelines
  upstream: UpstreamClient
  spool: Spool
  locks: Locks
  look: Look
  reconcile: Config['runs']['reconcile']
}) {
  const { db, records, accounts, projects, timelines, upstream, spool, locks, look, reconcile } = options

  /** Brings one upload to its end. Throws when another attempt has to be made. */
  return async function forward(job: Job<ForwardJob>, handOver: AbortSignal): Promise<void> {
    const id = job.data.uploadId
    const lost = new AbortController()
    const holder = { wanted() {}, lost: () => lost.abort() }
    // A worker that was taken for dead may be sending still; its session holds the lock as long as it lives.
    const held = await locks.hold(id, holder, LOCK_WAIT_MS, handOver)
    try {
      const row = await loadSpooled(db, id)
      if (!row) return
      if (row.upload.state === 'forwarding') await advance(row, AbortSignal.any([handOver, lost.signal]))
      await clear(id)
    } finally {
      await held.release()
    }
  }

  async function advance(row: SpooledRow, signal: AbortSignal): Promise<void> {
    const { upload } = row
    const project = await loadProject(db, upload.projectId)
    if (!project || project.deletedAt) return fail(row, project)
    const caller = { userId: upload.userId, platform: row.spool.platform }
    // Token and session are put to use before a byte is sent.
    const state = await read(row, project, caller, signal)
    if (!state) return
    if (row.spool.delivery === 'sent') {
      const media = await foundLater(row, state, caller, signal)
      if (media) return succeed(row, project, caller, media)
      await recordNotSent(db, upload.id)
    }
    await send(row, project, caller, state, signal)
  }

  async function send(
    row: SpooledRow,
    project: ProjectRow,
    caller: Caller,
    state: ProjectState,
    signal: AbortSignal,
  ): Promise<void> {
    const { id, filename, mediaType, bytes } = row.upload
    const named = mediaTypeOfName({ filename, declared: '' })
    const name = freeName(upstreamName(filename, named.ok ? named.extension : 'bin'), state.media)
    if ((await spool.size(id)) !== bytes) return fail(row, project)
    const way = { forwarded: 0, ended: false }
    const progress = records.progress(id, () => way.forwarded)
    const sent = await projects.call(project, caller, async (credential, sessionId) => {
      signal.throwIfAborted()
      const now = await loadProject(db, project.id)
      await recordSent(db, id, { sessionGeneration: now!.sessionGeneration, upstreamName: name })
      Object.assign(way, { forwarded: 0, ended: false })
      return upstream.uploadFile(credential, {
        sessionId,
        filename: name,
        mediaType: mediaType!,
        body: bytesOf(id, way, progress.tell),
        signal,
      })
    })
    await progress.stop()
    if (sent.kind === 'ok' && sent.value.media[0]) return succeed(row, project, caller, sent.value.media[0])
    // Without the end of its multipart body no file was taken.
    if (sent.kind === 'aborted' ? !way.ended : isUndelivered(sent) || !way.ended) await recordNotSent(db, id)
    await failOrThrow(
      row,
      project,
      sent.kind === 'ok' ? { kind: 'protocol', delivered: 'unknown' } : sent,
      signal,
    )
  }

  async function* bytesOf(id: string, way: { forwarded: number; ended: boolean }, tell: () => void) {
    for await (const chunk of await spool.read(id)) {
      yield chunk as Uint8Array
      passed(chunk.length)
      way.forwarded += chunk.length
      tell()
    }
    way.ended = true
  }

  /** The project's state; null when the upload has failed for want of it. */
  async function read(row: SpooledRow, project: ProjectRow, caller: Caller, signal: AbortSignal) {
    const outcome = await timelines.read(project, caller)
    if (outcome.kind === 'ok') return outcome.value
    await failOrThrow(row, project, outcome, signal)
    return null
  }

  /** The file, if the session it was sent to has it by now or gets it while it is looked at. */
  async function foundLater(row: SpooledRow, state: ProjectState, caller: Caller, signal: AbortSignal) {
    const { projectId } = row.upload
    const { sessionGeneration, upstreamName } = row.spool
    const found = ({ media }: ProjectState) => media.find(({ name }) => name === upstreamName)
    let media = found(state)
    for (let reads = 1; !media && reads < reconcile.reads; reads++) {
      await sleep(reads === 1 ? reconcile.firstMs : reconcile.everyMs, undefined, { signal })
      const project = await loadProject(db, projectId)
      // Another session knows nothing of what the old one was sent.
      if (!project || project.sessionGeneration !== sessionGeneration) return undefined
      const outcome = await timelines.read(project, caller)
      if (outcome.kind === 'ok') media = found(outcome.value)
    }
    return media
  }

  async function succeed({ upload }: SpooledRow, project: ProjectRow, caller: Caller, media: Media) {
    const bytes = upload.bytes!
    const ending = { state: 'ready', media: uploadedMedia(media), bytes, bytesForwarded: bytes } as const
    await records.finish(upload, ending)
    await clear(upload.id)
    await look(caller, project)
  }

  async function failOrThrow(row: SpooledRow, project: ProjectRow, failure: Failure, signal: AbortSignal) {
    signal.throwIfAborted()
    const { kind } = failure
    if (kind === 'rate_limited') {
      const wait = Math.min(failure.retryAfterMs ?? reconcile.firstMs, LONGEST_WAIT_MS)
      await sleep(wait, undefined, { signal })
    }
    if (kind === 'transient' || kind === 'protocol' || kind === 'aborted' || kind === 'rate_limited')
      throw new NotYetError(`The upstream has not taken the file: ${kind}`)
    const holder = holderOf(project, { userId: row.upload.userId, platform: row.spool.platform })
    const problem = await accounts.problem(failure, holder, project.language)
    await finish(row, { state: 'failed', problem, bytesForwarded: 0 })
  }

  /** There is nothing to send, or nowhere to send it. */
  async function fail(row: SpooledRow, project: ProjectRow | undefined) {
    const problem = fileProblem('upload_interrupted', project ?? { language: 'en' })
    await finish(row, { state: 'failed', problem, bytesForwarded: 0 })
  }

  async function finish({ upload }: SpooledRow, ending: Ending) {
    await records.finish(upload, ending)
  }

  /** Only after the end of the upload is recorded. */
  async function clear(id: string) {
    await spool.remove(id)
    await deleteSpool(db, id)
  }
}

function isUndelivered(sent: Outcome<unknown>): boolean {
  return (
    sent.kind !== 'ok' && sent.kind !== 'protocol' && !(sent.kind === 'transient' && sent.delivered !== 'no')
  )
}

/** A name that no file of the project has: by it the file is found again. */
function freeName(name: string, media: Media[]): string {
  const taken = new Set(media.map(one => one.name))
  const dot = name.lastIndexOf('.')
  for (let n = 1, free = name; ; free = `${name.slice(0, dot)} (${++n})${name.slice(dot)}`)
    if (!taken.has(free)) return free
}
