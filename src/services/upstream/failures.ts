import { field, isObject, type JsonObject, textField } from './fields.ts'

/** What a call came to. `delivered` says whether the upstream may have acted: only 'no' may be sent again. */
export type Outcome<T> = { kind: 'ok'; value: T } | Failure

export type Failure =
  | { kind: 'auth' }
  | { kind: 'session' }
  | {
      kind: 'refused'
      code: 'credits_exhausted' | 'upgrade_required' | 'unsupported_media' | 'file_too_large'
    }
  /** `mint_budget`: ours, not asked for at all (§0.6). */
  | { kind: 'rate_limited'; retryAfterMs: number | null; reason?: 'mint_budget' }
  | { kind: 'not_found' }
  | { kind: 'duplicate' }
  | { kind: 'transient'; delivered: 'no' | 'unknown'; cause: 'unavailable' | 'timeout' }
  | { kind: 'protocol'; delivered: 'unknown' }
  | { kind: 'rejected'; status: number; code: number | null }
  | { kind: 'aborted' }

/** An answer that was read to its end. `body` is null when it was empty or not valid UTF-8. */
export interface Answer {
  status: number
  contentType: string
  retryAfter: string | null
  body: string | null
}

const MAX_RETRY_AFTER_MS = 7 * 24 * 60 * 60 * 1000
const MAX_ERROR_TEXT = 500

const DEAD_TOKEN =
  /invalid authentication token|invalid token|invalid or expired|missing authentication token|token not found|token has been revoked|token has expired/i
const DEAD_SESSION = /session not found/i
const DUPLICATE = /already exists|already in use|duplicate/i
const UNKNOWN_ID = /not found|does not exist|no such|unknown (render|task|id)/i

export const PROTOCOL: Failure = { kind: 'protocol', delivered: 'unknown' }

/** True when the upstream may have acted although nobody can tell: what must not be done twice is not sent again. */
export function mayHaveArrived(failure: Failure): boolean {
  return failure.kind === 'protocol' || (failure.kind === 'transient' && failure.delivered === 'unknown')
}

/**
 * Turns any answer into its JSON, or into the failure it stands for. The status and the code in the body are
 * independent (upstream-contract §0.8), so a known code decides first, then what the error says, then the status.
 */
export function classify(answer: Answer): Outcome<JsonObject> {
  const { status } = answer
  const html = /^\s*(text\/html|application\/xhtml\+xml)/i.test(answer.contentType)
  const json = html ? null : parseObject(answer.body)
  const success = status >= 200 && status < 300

  if (success && !isJsonType(answer.contentType)) return PROTOCOL
  if (success && json === null) return PROTOCOL
  if (json !== null && success && !saysFailure(json)) return { kind: 'ok', value: json }

  const code = json === null ? null : codeOf(json)
  const retryAfterMs = parseRetryAfter(answer.retryAfter, Date.now())
  const byCode = code === null ? null : failureOfCode(code, retryAfterMs)
  if (byCode !== null) return byCode

  const said = json === null ? null : errorText(json)
  const bySaid = status < 500 && said !== null ? failureOfText(said) : null
  if (bySaid !== null) return bySaid
  // A firewall's page says nothing of the user's plan.
  if (html && status === 403) return { kind: 'rejected', status, code: null }
  const byStatus = failureOfStatus(status, retryAfterMs)
  if (byStatus !== null) return byStatus
  if (success || (status >= 400 && status < 500)) return { kind: 'rejected', status, code }
  return PROTOCOL
}

/** `classify` for the render calls, which alone know ids of ours: unknown (GET) or used before (POST), §2.8. */
export function classifyRender(answer: Answer, call: 'submit' | 'read'): Outcome<JsonObject> {
  const outcome = classify(answer)
  if (outcome.kind !== 'rejected') return outcome
  const json = parseObject(answer.body)
  const said = (json === null ? null : errorText(json)) ?? ''
  if (call === 'submit')
    return outcome.status === 409 || DUPLICATE.test(said) ? { kind: 'duplicate' } : outcome
  const answered = json !== null && (outcome.status === 404 || outcome.code === 404)
  return answered || UNKNOWN_ID.test(said) ? { kind: 'not_found' } : outcome
}

/** The failure behind a code of §5, in a body or in a stream. Codes from 400 to 599 count as HTTP statuses. */
export function failureOfCode(code: number, retryAfterMs: number | null): Failure | null {
  if (code === 1001 || code === 1010 || code === 1011) return { kind: 'auth' }
  if (code === 1002) return { kind: 'session' }
  if (code === 2001) return { kind: 'refused', code: 'credits_exhausted' }
  if (code === 4001) return { kind: 'refused', code: 'unsupported_media' }
  if (code === 4002) return { kind: 'refused', code: 'file_too_large' }
  return failureOfStatus(code, retryAfterMs)
}

/** The failure behind an error sentence of §5: a dead token, or a session that is gone. */
export function failureOfText(text: string): Failure | null {
  const head = text.slice(0, MAX_ERROR_TEXT)
  if (DEAD_SESSION.test(head)) return { kind: 'session' }
  if (DEAD_TOKEN.test(head)) return { kind: 'auth' }
  return null
}

function failureOfStatus(status: number, retryAfterMs: number | null): Failure | null {
  if (status === 401) return { kind: 'auth' }
  if (status === 402 || status === 403) return { kind: 'refused', code: 'upgrade_required' }
  if (status === 413) return { kind: 'refused', code: 'file_too_large' }
  if (status === 415) return { kind: 'refused', code: 'unsupported_media' }
  if (status === 429) return { kind: 'rate_limited', retryAfterMs }
  if (status === 408 || status === 504) return { kind: 'transient', delivered: 'unknown', cause: 'timeout' }
  if (status >= 500 && status < 600) return { kind: 'transient', delivered: 'unknown', cause: 'unavailable' }
  return null
}

/** `Retry-After` in ms from `now` (ms): seconds or an HTTP date, at most a week; null when it cannot be read. */
export function parseRetryAfter(value: string | null, now: number): number | null {
  if (value === null) return null
  const trimmed = value.trim()
  const ms = /^\d+$/.test(trimmed) ? Number(trimmed) * 1000 : Date.parse(trimmed) - now
  if (Number.isNaN(ms) || !/^\d+$|[A-Za-z]/.test(trimmed)) return null
  return Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS)
}

export function isJsonType(contentType: string): boolean {
  return /^\s*application\/([\w.-]+\+)?json\s*(;|$)/i.test(contentType)
}

/** The numeric `code` of an error body, also inside `error`, also spelled as a string; null when there is none. */
export function codeOf(json: JsonObject): number | null {
  const code = field(json, 'code') ?? field(field(json, 'error'), 'code')
  if (typeof code === 'number' && Number.isFinite(code)) return code
  return typeof code === 'string' && /^\d{1,9}$/.test(code) ? Number(code) : null
}

/** The sentence of an error body in any of its spellings: message, detail, error, error.message. */
export function errorText(json: JsonObject): string | null {
  return (
    textField(json, 'error') ??
    textField(field(json, 'error'), 'message', 'detail') ??
    textField(json, 'detail') ??
    textField(field(json, 'detail'), 'message') ??
    textField(json, 'message', 'msg')
  )
}

function saysFailure(json: JsonObject): boolean {
  const code = codeOf(json)
  if (code !== null && field(json, 'code') !== undefined) return code !== 0
  if (field(json, 'success') === false) return true
  // A failed render carries `error` beside its status: that is an answer, not a refusal (§2.8).
  const answers = ['data', 'status', 'taskId', 'token', 'output'].some(
    name => field(json, name) !== undefined,
  )
  return !answers && (field(json, 'error') !== undefined || field(json, 'detail') !== undefined)
}

function parseObject(body: string | null): JsonObject | null {
  if (body === null) return null
  try {
    const value: unknown = JSON.parse(body)
    return isObject(value) ? value : null
  } catch {
    return null
  }
}
