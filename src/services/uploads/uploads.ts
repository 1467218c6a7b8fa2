import { randomUUIDv7 } from 'node:crypto'
import type { Db } from '../../db/client.ts'
import type { ProjectRow } from '../../db/projects.ts'
import { asUser } from '../../db/tenants.ts'
import { findUpload, listUploads } from '../../db/uploads.ts'
import { notFound, type Problem, ProblemError, toProblem } from '../../problems.ts'
import type { Accounts, Caller } from '../accounts/accounts.ts'
import type { EventLog } from '../events/log.ts'
import { type List, listOf } from '../lists.ts'
import { holderOf, type Projects } from '../projects.ts'
import type { Timelines } from '../timeline/timeline.ts'
import type { Media, UpstreamClient } from '../upstream/client.ts'
import type { Failure, Outcome } from '../upstream/failures.ts'
import { labelOf, nameInUrl, upstreamName } from './filenames.ts'
import { createLook } from './look.ts'
import { HEAD_BYTES, mediaTypeOf } from './media-types.ts'
import { BODY_LIMITS, type BodyLimits, type FileBody, type IncomingFile, openBody } from './multipart-body.ts'
import { type Beginning, createRecords, fileProblem } from './records.ts'
import { toUpload, type Upload, uploadedMedia } from './upload.ts'
import { allowedUrl } from './urls.ts'

export interface Uploads {
  /**
   * Passes files on as they arrive, one after the other, and answers one upload for each. Throws when none was
   * taken: the first one's problem, or `invalid_request` when there was no file. What follows a file that was
   * refused in the middle is read only if the rest of that file is short.
   */
  receive(caller: Caller, projectId: string, files: AsyncIterable<IncomingFile>): Promise<Upload[]>
  /** The same for files that the upstream fetches by itself. */
  byUrl(caller: Caller, projectId: string, urls: string[]): Promise<Upload[]>
  list(userId: string, projectId: string, after: string | undefined, limit: number): Promise<List<Upload>>
  get(userId: string, id: string): Promise<Upload>
  /** Fails what a process left under way when it died: without progress for `olderThanMs`. Returns how many. */
  sweepInterrupted(olderThanMs: number): Promise<number>
}

type Sent = Outcome<{ media: Media[] }>

export function createUploads(options: {
  db: Db
  log: EventLog
  accounts: Accounts
  projects: Projects
  timelines: Timelines
  upstream: UpstreamClient
  maxBytes: number
  limits?: Partial<BodyLimits>
}): Uploads {
  const { db, log, accounts, projects, timelines, upstream, maxBytes } = options
  const limits = { ...BODY_LIMITS, ...options.limits }
  const records = createRecords({ db, log })
  const look = createLook({ log, timelines })

  async function receiveOne(caller: Caller, project: ProjectRow, file: IncomingFile, body: FileBody) {
    const filename = labelOf(file.filename)
    const upload: Beginning = { ...beginning(caller, project), filename }
    const type = await body.peek(HEAD_BYTES).then(
      head => mediaTypeOf({ filename, declared: file.mediaType, head }),
      () => null,
    )
    if (!type?.ok) {
      const problem = type ? fileProblem('unsupported_media', project) : bodyProblem(body, project)
      return records.refuse(upload, problem)
    }
    await records.begin({ ...upload, mediaType: type.mediaType })
    const progress = records.progress(upload.id, () => body.forwarded)
    const sent = await projects.call(project, caller, (credential, sessionId): Promise<Sent> => {
      // Token or session died after all. A body that was begun is gone: half of it must not be sent as the whole.
      if (body.begun) return Promise.resolve({ kind: 'aborted' })
      return upstream.uploadFile(credential, {
        sessionId,
        filename: upstreamName(filename, type.extension),
        mediaType: type.mediaType,
        body: body.stream(progress.tell),
        signal: body.signal,
      })
    })
    await progress.stop()
    return finish(caller, project, upload, sent, body)
  }

  async function finish(
    caller: Caller,
    project: ProjectRow,
    upload: Beginning,
    sent: Sent,
    body?: FileBody,
  ): Promise<Upload> {
    const bytesForwarded = body?.forwarded ?? 0
    const media = sent.kind === 'ok' ? sent.value.media[0] : undefined
    if (!media) {
      const problem = await problemOf(caller, project, sent, body)
      return records.finish(upload, { state: 'failed', problem, bytesForwarded })
    }
    const bytes = body ? bytesForwarded : null
    const ready = await records.finish(upload, {
      state: 'ready',
      media: uploadedMedia(media),
      bytes,
      bytesForwarded,
    })
    await look(caller, project)
    return ready
  }

  async function problemOf(caller: Caller, project: ProjectRow, sent: Sent, body?: FileBody) {
    if (body?.failure) return bodyProblem(body, project)
    // An acceptance that names no file has accepted none.
    const failure: Failure = sent.kind === 'ok' ? { kind: 'protocol', delivered: 'unknown' } : sent
    const silent = failure.kind === 'transient' || failure.kind === 'protocol'
    const inTheMiddle = silent && body?.begun && !body.ended
    if (failure.kind === 'aborted' || inTheMiddle) return fileProblem('upload_interrupted', project)
    return accounts.problem(failure, holderOf(project, caller), project.language)
  }

  return {
    async receive(caller, projectId, files) {
      const project = await projects.own(caller.userId, projectId)
      // Token and session are put to use while everything can still be sent again.
      const holder = holderOf(project, caller)
      await accounts.valueOrThrow(await timelines.read(project, caller), holder, project.language)
      const uploads: Upload[] = []
      try {
        for await (const file of files) {
          const body = openBody(file.body, maxBytes, limits)
          const upload = await receiveOne(caller, project, file, body)
          uploads.push(upload)
          if (upload.state === 'failed' && !(await body.discard())) break
        }
      } catch (error) {
        // What was taken is told, also when the request breaks off behind it.
        if (!uploads.some(taken)) throw error
      }
      return anyTaken(uploads, 'Send each file as a part with the name "file".')
    },

    async byUrl(caller, projectId, urls) {
      const project = await projects.own(caller.userId, projectId)
      const uploads: Upload[] = []
      let hopeless: Problem | undefined
      for (const text of urls) {
        const url = await allowedUrl(text)
        const upload: Beginning = { ...beginning(caller, project), filename: nameInUrl(url ?? text) }
        const problem = url === null ? toProblem('url_not_allowed', NOT_ALLOWED) : hopeless
        if (url === null || problem) {
          uploads.push(await records.refuse(upload, problem!))
          continue
        }
        await records.begin(upload)
        const sent = await projects.call(project, caller, (credential, sessionId) =>
          upstream.uploadUrls(credential, { sessionId, urls: [url] }),
        )
        const ended = await finish(caller, project, upload, sent)
        uploads.push(ended)
        if (concernsAll(sent)) hopeless = ended.problem
      }
      return anyTaken(uploads, 'Name at least one address.')
    },

    async list(userId, projectId, after, limit) {
      await projects.own(userId, projectId)
      return listOf(limit, n => asUser(db, userId, own => listUploads(own, projectId, after, n)), toUpload)
    },

    async get(userId, id) {
      const row = await findUpload(db, userId, id)
      if (!row) throw notFound()
      return toUpload(row)
    },

    sweepInterrupted: records.sweep,
  }
}

const NOT_ALLOWED = 'Only public http and https addresses can be used, without a user name and on a web port.'

const beginning = (caller: Caller, project: ProjectRow) => ({
  id: randomUUIDv7(),
  userId: caller.userId,
  projectId: project.id,
})

function bodyProblem(body: FileBody, project: ProjectRow): Problem {
  return fileProblem(body.failure === 'too_large' ? 'file_too_large' : 'upload_interrupted', project)
}

/** Whether the next file would fare no better: what is wrong is not the file, but the account or the upstream. */
function concernsAll(sent: Sent): boolean {
  if (sent.kind === 'ok' || sent.kind === 'rejected') return false
  return !(sent.kind === 'refused' && /^(unsupported_media|file_too_large)$/.test(sent.code))
}

const taken = (upload: Upload) => upload.state === 'ready'

function anyTaken(uploads: Upload[], whenNone: string): Upload[] {
  if (uploads.some(taken)) return uploads
  const problem = uploads[0]?.problem ?? toProblem('invalid_request', whenNone)
  const { code, detail, retryAfterMs, userState } = problem
  throw new ProblemError(code, detail, {
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    ...(userState && { userState }),
  })
}
