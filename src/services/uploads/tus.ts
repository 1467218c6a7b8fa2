import type { IncomingHttpHeaders } from 'node:http'
import { Server, type Upload } from '@tus/server'
import type { Locks } from '../../db/locks.ts'
import { type Problem, ProblemError, toProblem } from '../../problems.ts'
import type { Spool } from './spool.ts'

export const TUS_VERSION = '1.0.0'

/** One request in the tus protocol, its credential and its upload checked. */
export interface TusRequest {
  method: 'POST' | 'HEAD' | 'PATCH' | 'DELETE'
  /** The upload it is about; for POST, the one it makes. */
  id: string
  location: string
  headers: IncomingHttpHeaders
  body: AsyncIterable<Uint8Array> | null
  /** Before an upload of `size` bytes is made. Throws ProblemError. */
  onCreate?(size: number): Promise<void>
  /** All bytes are there. Throws ProblemError. */
  onReceived?(): Promise<void>
}

export interface TusAnswer {
  status: number
  headers: Record<string, string>
}

export type Tus = (request: TusRequest) => Promise<TusAnswer>

const LOCK_WAIT_MS = 10_000
/** How long a request that another one waits for may go on, to write what has arrived. */
const DRAIN_MS = 1_000
const TOLD = /^(upload-(offset|length|expires|metadata)|location|cache-control|connection)$/

/**
 * @tus/server as a function: it keeps the protocol, and knows nothing of users, addresses or our problems. Throws
 * ProblemError for whatever it refuses.
 */
export function createTus({ spool, locks, maxBytes }: { spool: Spool; locks: Locks; maxBytes: number }): Tus {
  const requests = new WeakMap<object, TusRequest>()
  const problems = new WeakMap<object, Problem>()
  const server = new Server({
    path: '/',
    datastore: spool.store,
    maxSize: maxBytes,
    lockDrainTimeout: DRAIN_MS,
    namingFunction: request => requests.get(request)!.id,
    getFileIdFromRequest: request => requests.get(request)!.id,
    generateUrl: request => requests.get(request)!.location,
    locker: {
      newLock(id) {
        let held: Awaited<ReturnType<Locks['hold']>> | undefined
        return {
          async lock(signal, cancel) {
            held = await locks
              .hold(id, { wanted: cancel, lost: cancel }, LOCK_WAIT_MS, signal)
              .catch(error => {
                // Aborted, its reason may be anything.
                throw signal.aborted ? new ProblemError('upload_interrupted') : error
              })
          },
          async unlock() {
            await held?.release()
          },
        }
      },
    },
    async onUploadCreate(request, upload) {
      await requests.get(request)!.onCreate?.(upload.size ?? 0)
      return {}
    },
    async onUploadFinish(request) {
      await requests.get(request)!.onReceived?.()
      return {}
    },
    onResponseError(request, error) {
      const problem = problemOf(error)
      // Not of ours to tell, but of ours to log: thrown again below.
      if (problem) problems.set(request, problem)
      else failures.set(request, error)
      return undefined
    },
  })
  const failures = new WeakMap<object, unknown>()

  return async tusRequest => {
    const { method, headers, body } = tusRequest
    const request = new Request('http://tus/', {
      method,
      headers: protocolHeaders(headers),
      ...(body && { body: ReadableStream.from(body), duplex: 'half' }),
    } as RequestInit)
    requests.set(request, tusRequest)
    const answer = await server.handleWeb(request)
    const problem = problems.get(request) ?? refusalOf(answer.status)
    if (failures.has(request)) throw failures.get(request)
    if (problem) throw new ProblemError(problem.code, problem.detail, problem)
    const told = [...answer.headers].filter(([name]) => TOLD.test(name))
    return { status: answer.status, headers: Object.fromEntries(told) }
  }
}

/** Only what the protocol speaks of; nothing else can then be misread, and credentials stay out. */
function protocolHeaders(headers: IncomingHttpHeaders): Headers {
  const kept = new Headers()
  for (const [name, value] of Object.entries(headers))
    if (/^(tus-|upload-|content-(type|length)$)/.test(name) && typeof value === 'string')
      kept.set(name, value)
  return kept
}

const DETAILS: Record<number, [code: Problem['code'], detail: string]> = {
  400: ['invalid_request', 'The headers of the upload are not valid.'],
  403: ['invalid_request', 'Upload-Offset and the content type application/offset+octet-stream are needed.'],
  404: ['not_found', 'It does not exist, or it is not yours.'],
  409: [
    'upload_interrupted',
    'Upload-Offset is not where the upload stands. Ask for its offset and go on there.',
  ],
  410: ['upload_gone', 'What was received of this upload is gone. Begin again.'],
  412: ['invalid_request', `Only version ${TUS_VERSION} of tus is spoken: send Tus-Resumable.`],
  413: ['payload_too_large', 'There is more than the upload may hold.'],
  501: ['invalid_request', 'This extension of tus is not spoken here: Upload-Length must be known.'],
}

function problemOf(error: unknown): Problem | undefined {
  if (error instanceof ProblemError) return error.problem
  const { name, code, status_code } = error as { name?: string; code?: string; status_code?: number }
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return toProblem('storage_full', 'The disk is full. What has arrived is kept: go on later.')
  if (name === 'LockTimeoutError')
    return toProblem('upload_interrupted', 'Another request is still writing this upload. Try again.')
  return refusalOf(status_code ?? 500)
}

function refusalOf(status: number): Problem | undefined {
  const known = DETAILS[status]
  return known && toProblem(...known)
}

/** What @tus/server needs to know of an upload. */
export type { Upload }
