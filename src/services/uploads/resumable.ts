import { randomUUIDv7 } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import { Metadata, Upload } from '@tus/server'
import type { Db } from '../../db/client.ts'
import type { Locks } from '../../db/locks.ts'
import type { ProjectRow } from '../../db/projects.ts'
import {
  countReceiving,
  deleteSpool,
  findSpooled,
  insertSpool,
  loadSpooled,
  lockSpool,
  recordReceived,
  reservedIn,
  type SpooledRow,
  startForwarding,
} from '../../db/spools.ts'
import { finishUpload, insertUpload, type UploadRow } from '../../db/uploads.ts'
import { notFound, type Problem, ProblemError } from '../../problems.ts'
import type { Caller } from '../accounts/accounts.ts'
import type { Queue } from '../jobs/jobs.ts'
import type { Projects } from '../projects.ts'
import { labelOf } from './filenames.ts'
import type { ForwardJob } from './forward.ts'
import { HEAD_BYTES, mediaTypeOf, mediaTypeOfName } from './media-types.ts'
import { BODY_LIMITS, type BodyLimits, type FileBody, openBody } from './multipart-body.ts'
import { fileProblem, type Records } from './records.ts'
import type { Spool, UploadFacts } from './spool.ts'
import { createTus, type TusAnswer } from './tus.ts'

export interface ResumableRequest {
  method: 'POST' | 'HEAD' | 'PATCH' | 'DELETE'
  projectId: string
  /** Absent for POST, which makes one. */
  uploadId?: string
  headers: IncomingHttpHeaders
  body: Readable
}

export interface Resumable {
  /** Answers one request of tus 1.0. Throws ProblemError; a foreign upload is `not_found`. */
  handle(caller: Caller, request: ResumableRequest): Promise<TusAnswer>
  /** An upload whose bytes are all there goes on its way; nothing happens when it has done so before. */
  accept(id: string): Promise<void>
  /** The largest file that is taken. */
  readonly maxBytes: number
}

/** How long an upload may take to arrive, and a whole one to be forwarded. */
export const RECEIVE_MS = 24 * 60 * 60_000
const FORWARD_MS = 6 * 60 * 60_000
const MAX_UNFINISHED = 10
const TOO_SLOW = 'Too little arrives. What has arrived is kept: ask for the offset and go on there.'
/** Left free for everybody else who writes to the disk. */
const SPARE_BYTES = 16 << 20

/**
 * Resumable uploads: received into the spool piece by piece, by whichever instance reaches it, and handed to a job
 * once whole. The room for all of an upload is reserved before its first byte.
 */
export function createResumable(options: {
  db: Db
  records: Records
  projects: Projects
  spool: Spool
  locks: Locks
  queue: Queue<ForwardJob>
  maxBytes: number
  quotaBytes: number
  limits?: Partial<BodyLimits>
  onReceived(): void
}): Resumable {
  const { db, records, projects, spool, locks, queue, maxBytes, quotaBytes } = options
  const limits = { ...BODY_LIMITS, ...options.limits }
  const tus = createTus({ spool, locks, maxBytes })

  async function create(
    caller: Caller,
    project: ProjectRow,
    request: ResumableRequest,
    body: FileBody | null,
  ) {
    const id = randomUUIDv7()
    const metadata = String(request.headers['upload-metadata'] ?? '')
    const { filename, declared } = described(metadata)
    // Before anything is reserved; what arrives has to agree with it later.
    if (!mediaTypeOfName({ filename, declared }).ok) throw refusal('unsupported_media', project)
    const size = String(request.headers['upload-length'] ?? '')
    if (/^\d{1,15}$/.test(size) && Number(size) > maxBytes) throw refusal('file_too_large', project)
    if (body && !(await beginsAs(body, Number(size), filename, declared)))
      throw refusal('unsupported_media', project)

    async function reserve(bytes: number) {
      if (bytes === 0) throw refusal('unsupported_media', project)
      const free = await spool.freeBytes()
      await records.store(async tx => {
        await lockSpool(tx, spool.id)
        if ((await countReceiving(tx, caller.userId)) >= MAX_UNFINISHED)
          throw new ProblemError(
            'rate_limited',
            'Too many unfinished uploads: finish or end one of them first.',
          )
        const reserved = await reservedIn(tx, spool.id)
        if (reserved.bytes + bytes > quotaBytes || free - reserved.missing - SPARE_BYTES < bytes)
          throw new ProblemError('storage_full', undefined, { retryAfterMs: 60_000 })
        const { userId, platform } = caller
        const upload = { id, userId, projectId: project.id, filename, bytes, state: 'receiving' } as const
        const row = await insertUpload(tx, upload)
        const kept = { uploadId: id, spool: spool.id, platform, declaredType: declared, metadata }
        await insertSpool(tx, kept, RECEIVE_MS)
        return row
      })
    }

    const answer = await tus({
      method: 'POST',
      id,
      location: `/v1/projects/${project.id}/uploads/resumable/${id}`,
      headers: request.headers,
      body: body && arriving(body),
      onCreate: reserve,
      onReceived: () => accept(id),
    })
    await noteOffset(id, answer)
    return answer
  }

  async function go(project: ProjectRow, row: SpooledRow, request: ResumableRequest, body: FileBody | null) {
    const { upload } = row
    if (body && request.headers['upload-offset'] === '0') {
      const { declaredType } = row.spool
      if (!(await beginsAs(body, upload.bytes!, upload.filename, declaredType))) {
        await end(row, fileProblem('unsupported_media', project))
        throw refusal('unsupported_media', project)
      }
    }
    const answer = await tus({
      method: request.method,
      id: upload.id,
      location: '',
      headers: request.headers,
      body: body && arriving(body),
      onReceived: () => accept(upload.id),
    })
    if (request.method === 'DELETE') await end(row, fileProblem('upload_interrupted', project))
    if (request.method === 'PATCH') await noteOffset(upload.id, answer)
    if (body?.failure === 'too_slow') throw new ProblemError('request_timeout', TOO_SLOW)
    // The process that received the last byte may have died before it could say so.
    if (request.method === 'HEAD' && answer.headers['upload-offset'] === String(upload.bytes))
      await accept(upload.id)
    return answer
  }

  async function accept(id: string): Promise<void> {
    const row = await loadSpooled(db, id)
    if (row?.upload.state !== 'receiving') return
    const { filename, projectId, bytes } = row.upload
    const head = await headOf(await spool.read(id), Math.min(HEAD_BYTES, bytes!))
    const type = await mediaTypeOf({ filename, declared: row.spool.declaredType, head })
    if (!type.ok) {
      const problem = fileProblem('unsupported_media', await projects.own(row.upload.userId, projectId))
      await end(row, problem)
      throw new ProblemError(problem.code, problem.detail, problem)
    }
    await spool.settle(id)
    await records.store(async tx => {
      const started = await startForwarding(tx, id, type.mediaType, FORWARD_MS)
      if (started) await queue.enqueue(tx, projectId, { uploadId: id })
      return started
    })
    options.onReceived()
  }

  /** The upload ends here: nothing of it is kept. */
  async function end({ upload }: SpooledRow, problem: Problem) {
    await records.store(tx => finishUpload(tx, upload.id, { state: 'failed', problem, bytesForwarded: 0 }))
    await spool.remove(upload.id)
    await deleteSpool(db, upload.id)
  }

  async function noteOffset(id: string, { headers }: TusAnswer) {
    const offset = headers['upload-offset']
    if (offset !== undefined) await recordReceived(db, id, Number(offset))
  }

  return {
    accept,
    maxBytes,

    async handle(caller, request) {
      const project = await projects.own(caller.userId, request.projectId)
      const { method, uploadId, headers } = request
      const hasBody = method === 'PATCH' || (method === 'POST' && headers['content-type'] !== undefined)
      // The library counts; here only the pace is kept.
      const body = hasBody ? openBody(request.body, Number.POSITIVE_INFINITY, limits) : null
      try {
        if (uploadId === undefined) return await create(caller, project, request, body)
        const found = await findSpooled(db, { userId: caller.userId, projectId: project.id }, uploadId)
        if (!found || found.upload.bytes === null) throw notFound()
        const { upload, spool: kept } = found
        if (upload.state === 'forwarding' || upload.state === 'ready') return whole(upload, request)
        if (upload.state === 'failed' || !kept)
          throw new ProblemError('upload_gone', 'This upload has ended. Begin again.')
        if (kept.spool !== spool.id)
          throw new ProblemError(
            'upload_gone',
            'This upload is kept where it cannot be reached now. Begin again.',
          )
        return await go(project, { upload, spool: kept }, request, body)
      } catch (error) {
        throw error instanceof ProblemError ? inWords(error, project) : error
      } finally {
        body?.release()
      }
    },
  }
}

/** What @tus/server asks of an upload comes from its row; our own code writes it. */
export function uploadFacts(db: Db): UploadFacts {
  return {
    async get(id) {
      const row = await loadSpooled(db, id)
      if (!row) return undefined
      const { bytes, createdAt } = row.upload
      const metadata = row.spool.metadata === '' ? undefined : Metadata.parse(row.spool.metadata)
      return new Upload({
        id,
        size: bytes!,
        offset: 0,
        creation_date: createdAt.toISOString(),
        ...(metadata && { metadata }),
      })
    },
    async set() {},
    async delete() {},
  }
}

/** An upload that has been received stays so for a client that did not hear of it, also after its file is gone. */
function whole({ bytes }: UploadRow, { method, headers }: ResumableRequest): TusAnswer {
  const offset = String(bytes)
  if (method === 'DELETE')
    throw new ProblemError('invalid_request', 'The upload has been received and can no longer be withdrawn.')
  if (method === 'PATCH' && headers['upload-offset'] !== offset)
    throw new ProblemError('upload_interrupted', 'All of this upload has been received.')
  return {
    status: method === 'HEAD' ? 200 : 204,
    headers: { 'upload-offset': offset, 'upload-length': offset, 'cache-control': 'no-store' },
  }
}

/** The body as far as it comes: a client that leaves or dawdles only ends it, and what has arrived is kept. */
async function* arriving(body: FileBody): AsyncGenerator<Uint8Array> {
  try {
    yield* body.stream(() => {})
  } catch (error) {
    if (!body.failure) throw error
  }
}

/** Whether a file that is sent from its beginning can be what it is called. Less than a head tells nothing yet. */
async function beginsAs(body: FileBody, size: number, filename: string, declared: string): Promise<boolean> {
  const head = await body.peek(HEAD_BYTES).catch(() => null)
  if (!head || head.length < Math.min(HEAD_BYTES, size)) return true
  return (await mediaTypeOf({ filename, declared, head })).ok
}

async function headOf(file: Readable, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of file) {
    chunks.push(chunk)
    length += chunk.length
    if (length >= bytes) break
  }
  return Buffer.concat(chunks).subarray(0, bytes)
}

/** tus-js-client, Uppy, TUSKit and tus-android-client: each names these in its own way. */
function described(header: string): { filename: string; declared: string } {
  try {
    const { filename, name, filetype, type } = header === '' ? {} : Metadata.parse(header)
    return { filename: labelOf(filename ?? name ?? ''), declared: filetype ?? type ?? '' }
  } catch {
    throw new ProblemError('invalid_request', 'Upload-Metadata is not valid.')
  }
}

/** What no client can mend by itself is also said to its user. */
function inWords(error: ProblemError, project: ProjectRow): ProblemError {
  const { code, detail, retryAfterMs } = error.problem
  if (!/^(storage_full|upload_gone|request_timeout)$/.test(code)) return error
  const { userState } = fileProblem(code, project, retryAfterMs)
  return new ProblemError(code, detail, {
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    ...(userState && { userState }),
  })
}

function refusal(code: 'unsupported_media' | 'file_too_large', project: ProjectRow): ProblemError {
  const problem = fileProblem(code, project)
  return new ProblemError(code, problem.detail, problem)
}
