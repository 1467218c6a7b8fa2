import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'

/** Every problem a client can meet: code → status and title (`docs/api.md`, Problems). */
export const PROBLEMS = {
  invalid_request: { status: 400, title: 'The request is not valid' },
  unauthenticated: { status: 401, title: 'Sign in first' },
  csrf_required: { status: 403, title: 'The request did not come from an allowed page' },
  not_found: { status: 404, title: 'There is no such thing' },
  method_not_allowed: { status: 405, title: 'This method is not allowed here' },
  request_timeout: { status: 408, title: 'The request did not arrive in time' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  internal: { status: 500, title: 'Something went wrong on our side' },
  project_busy: { status: 409, title: 'The project is working on another message' },
  queue_full: { status: 409, title: 'Too many messages are waiting in this project' },
  nothing_to_export: { status: 409, title: 'There is nothing to export yet' },
  not_ready: { status: 409, title: 'The file is not ready yet' },
  not_failed: { status: 409, title: 'Only a failed render can be retried' },
  upload_interrupted: { status: 409, title: 'The upload was interrupted' },
  upload_gone: { status: 410, title: 'The upload can no longer be continued' },
  tus_version: { status: 412, title: 'This version of tus is not spoken here' },
  storage_full: { status: 507, title: 'There is no room for this file at the moment' },
  idempotency_in_progress: { status: 409, title: 'A request with this idempotency key is still running' },
  idempotency_mismatch: { status: 422, title: 'This idempotency key was used with another body' },
  url_not_allowed: { status: 422, title: 'This address cannot be used' },
  content_filtered: { status: 422, title: 'The model declined this content' },
  file_too_large: { status: 413, title: 'The file is too large' },
  unsupported_media: { status: 415, title: 'This kind of file is not supported' },
  credits_exhausted: { status: 402, title: 'Not enough credits' },
  upgrade_required: { status: 403, title: 'The plan does not include this' },
  reauth_required: { status: 409, title: 'The video account must be linked again' },
  rate_limited: { status: 429, title: 'Too many requests' },
  upstream_unavailable: { status: 502, title: 'The video service cannot be reached' },
  upstream_timeout: { status: 504, title: 'The video service did not answer in time' },
  outcome_unknown: { status: 502, title: 'It is not known whether the edit was made' },
  render_lost: { status: 502, title: 'The render did not finish within a day' },
  overloaded: { status: 503, title: 'Too busy right now' },
} as const satisfies Record<string, { status: number; title: string }>

export type ProblemCode = keyof typeof PROBLEMS

/** What a person can do about a problem, in their language. */
export interface UserState {
  code: ProblemCode
  message: string
  action?: {
    kind: 'register' | 'top_up' | 'upgrade' | 'link_account' | 'retry' | 'wait'
    url?: string
    retryAt?: string
  }
}

/** A problem as it is stored and sent, without what belongs to one request (`requestId`). */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  code: ProblemCode
  retryAfterMs?: number
  userState?: UserState
}

/** An error that a client is told of. Thrown anywhere below a route; `detail` is shown, `cause` only logged. */
export class ProblemError extends Error {
  readonly problem: Problem

  constructor(
    code: ProblemCode,
    detail?: string,
    extra: { retryAfterMs?: number; userState?: UserState; cause?: unknown } = {},
  ) {
    super(detail ?? PROBLEMS[code].title, { cause: extra.cause })
    this.name = 'ProblemError'
    this.problem = toProblem(code, detail, extra)
  }
}

export function toProblem(
  code: ProblemCode,
  detail?: string,
  extra: { retryAfterMs?: number; userState?: UserState } = {},
): Problem {
  const { status, title } = PROBLEMS[code]
  const problem: Problem = {
    type: `urn:reelgate:problem:${code}`,
    title,
    status,
    detail: detail ?? `${title}.`,
    code,
  }
  if (extra.retryAfterMs !== undefined) problem.retryAfterMs = extra.retryAfterMs
  if (extra.userState) problem.userState = extra.userState
  return problem
}

export const notFound = () => new ProblemError('not_found', 'It does not exist, or it is not yours.')

const DATABASE_DOWN = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  '57P01',
  '57P02',
  '57P03',
  '53300',
  '25006',
  '08006',
  '08003',
])

const DATABASE_SILENT =
  /timeout exceeded when trying to connect|Query read timeout|Connection terminated|pool after calling end|is not queryable/
/** Postgres keeps no NUL in a text. */
const NOT_STORABLE = '22021'

/** Turns any thrown thing into a problem; whatever is not ours to tell becomes `internal` or `overloaded`. */
export function asProblem(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem
  const { statusCode, validation, message } = (error ?? {}) as FastifyError
  if (validation) return toProblem('invalid_request', message)
  if (statusCode === 413) return toProblem('payload_too_large')
  if (statusCode === 429) return toProblem('rate_limited')
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return toProblem('invalid_request', message)
  if (causesOf(error).some(({ code }) => code === NOT_STORABLE))
    return toProblem('invalid_request', 'A text holds a character that cannot be kept.')
  if (isDatabaseDown(error))
    return toProblem('overloaded', 'The database does not answer. Try again soon.', { retryAfterMs: 2000 })
  return toProblem('internal')
}

/** True for errors that say the database cannot be used right now. */
export function isDatabaseDown(error: unknown): boolean {
  return causesOf(error).some(
    ({ code, message }) => (code && DATABASE_DOWN.has(code)) || DATABASE_SILENT.test(message ?? ''),
  )
}

interface Cause {
  code?: string
  message?: string
  cause?: unknown
}

/** The error and what it was thrown for: drizzle wraps the driver's error in `cause`. */
function causesOf(error: unknown): Cause[] {
  const causes: Cause[] = []
  for (let e = error as Cause | null | undefined; e && causes.length < 10; e = e.cause as typeof e)
    causes.push(e)
  return causes
}

export function sendProblem(request: FastifyRequest, reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.retryAfterMs !== undefined) reply.header('retry-after', Math.ceil(problem.retryAfterMs / 1000))
  return reply
    .code(problem.status)
    .type('application/problem+json')
    .send({ ...problem, requestId: request.id })
}

export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = asProblem(error)
  if (problem.status >= 500) request.log.error({ err: error }, 'request failed')
  return sendProblem(request, reply, problem)
}

export function handleNotFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return sendProblem(request, reply, toProblem('not_found', 'There is no such address.'))
}
