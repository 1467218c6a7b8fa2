import { failureOfCode, failureOfText } from './failures.ts'
import { cleanText, field, isObject, type JsonObject, textField } from './fields.ts'

export type Meaning =
  | { kind: 'text'; text: string; partial: boolean }
  | { kind: 'tool'; phase: 'started' | 'finished'; name: string; silent: boolean }
  | { kind: 'state'; keys: string[] }
  | { kind: 'heartbeat' }
  | { kind: 'truncated' }
  | { kind: 'error'; code: StreamErrorCode }
  | { kind: 'skipped' }
  | { kind: 'end' }
  | { kind: 'cut'; cause: 'socket' | 'silence' | 'limit' | 'protocol' }

export type StreamErrorCode =
  | 'content_filtered'
  | 'rate_limited'
  | 'upstream_unavailable'
  | 'reauth_required'
  | 'session_lost'
  | 'credits_exhausted'
  | 'upgrade_required'

const MAX_NAME = 128
const MAX_STATE_KEYS = 200

const HARMLESS = new Set(['STOP', 'FINISH_REASON_UNSPECIFIED', 'OK', '0', '200'])
const FILTERED = new Set(['SAFETY', 'BLOCKLIST', 'PROHIBITED_CONTENT', 'RECITATION', 'SPII'])
const ADK_KEYS = [
  ...['author', 'actions', 'partial', 'interrupted', 'timestamp'],
  ...['invocationId', 'invocation_id', 'turnComplete', 'turn_complete', 'usageMetadata', 'usage_metadata'],
  ...['longRunningToolIds', 'long_running_tool_ids', 'finishReason', 'finish_reason'],
]

/**
 * What one `data:` payload of `/run_sse` means, in order; empty when a sound frame says nothing of interest.
 * Accepts the three shapes of upstream-contract §4 in both spellings and the errors of §8; never throws.
 */
export function readFrame(data: string): Meaning[] {
  if (data.trim() === '') return [{ kind: 'heartbeat' }]
  let frame: unknown
  try {
    frame = JSON.parse(data)
  } catch {
    // Old servers write an error's raw text between the quotes, so the frame is an error and no JSON (§8).
    return /"error"\s*:/.test(data) ? [errorOfText(data)] : [{ kind: 'skipped' }]
  }
  if (!isObject(frame)) return [{ kind: 'skipped' }]
  if (field(frame, 'author') === 'user') return []
  const meanings = [...readContent(frame), ...readActions(frame), ...readFailure(frame)]
  if (meanings.length > 0) return meanings
  const sound = isObject(field(frame, 'content')) || ADK_KEYS.some(key => Object.hasOwn(frame, key))
  return sound ? [] : [{ kind: 'skipped' }]
}

function readContent(frame: JsonObject): Meaning[] {
  const type = field(frame, 'type')
  const typed = typeof type === 'string' ? readTyped(frame, type) : null
  if (typed !== null) return typed
  const plain = textField(frame, 'text')
  if (plain !== null) return [{ kind: 'text', text: plain, partial: field(frame, 'partial') !== false }]
  const parts = field(field(frame, 'content'), 'parts')
  return Array.isArray(parts) ? readParts(frame, parts) : []
}

function readParts(frame: JsonObject, parts: unknown[]): Meaning[] {
  const silent = field(field(frame, 'actions'), 'skipSummarization', 'skip_summarization') === true
  const tools: Meaning[] = []
  let text = ''
  for (const part of parts) {
    if (field(part, 'thought') === true) continue
    text += textField(part, 'text') ?? ''
    const call = field(part, 'functionCall', 'function_call')
    if (call !== undefined)
      tools.push({ kind: 'tool', phase: 'started', name: toolName(call), silent: false })
    const result = field(part, 'functionResponse', 'function_response')
    if (result !== undefined) tools.push({ kind: 'tool', phase: 'finished', name: toolName(result), silent })
  }
  const partial = field(frame, 'partial') === true
  // Calls in a partial event come again in the whole one. Told now, they would end a turn whose text goes on.
  const told = partial ? [] : tools
  return text === '' ? told : [{ kind: 'text', text, partial }, ...told]
}

function readTyped(frame: JsonObject, type: string): Meaning[] | null {
  if (type === 'heartbeat' || type === 'ping') return [{ kind: 'heartbeat' }]
  if (type === 'text') {
    const text = textField(frame, 'content', 'text')
    return text === null ? [] : [{ kind: 'text', text, partial: field(frame, 'partial') !== false }]
  }
  const named = field(frame, 'content') ?? frame
  if (type === 'tool_call') return [{ kind: 'tool', phase: 'started', name: toolName(named), silent: false }]
  if (type === 'tool_result')
    return [{ kind: 'tool', phase: 'finished', name: toolName(named), silent: false }]
  // A typed error carries its sentence in `content`; one that also has `error` or a code is read by those.
  if (
    type === 'error' &&
    !['error', 'code', 'errorCode', 'error_code'].some(key => Object.hasOwn(frame, key))
  ) {
    return [errorOfText(textField(frame, 'content', 'message') ?? '')]
  }
  return null
}

function readActions(frame: JsonObject): Meaning[] {
  const delta = field(field(frame, 'actions'), 'stateDelta', 'state_delta')
  if (!isObject(delta)) return []
  const keys = Object.keys(delta)
    .filter(key => !/^(temp|user|app):|^__proto__$/.test(key) && key.length <= MAX_NAME)
    .slice(0, MAX_STATE_KEYS)
    .map(cleanText)
  return keys.length === 0 ? [] : [{ kind: 'state', keys }]
}

function readFailure(frame: JsonObject): Meaning[] {
  const message = textField(frame, 'errorMessage', 'error_message', 'message') ?? ''
  const error = field(frame, 'error')
  const said =
    typeof error === 'string' ? cleanText(error) : (textField(error, 'message', 'detail') ?? message)
  const code =
    field(frame, 'errorCode', 'error_code') ?? field(frame, 'code') ?? field(error, 'code', 'status')
  if (code !== undefined) {
    const meaning = errorOfCode(String(code), said === '' ? message : said)
    if (meaning !== null || error === undefined) return meaning === null ? [] : [meaning]
  }
  if (error !== undefined && error !== false && error !== '') return [errorOfText(said)]
  // A partial event repeats the reason that the whole one gives again.
  const finish = field(frame, 'partial') === true ? undefined : field(frame, 'finishReason', 'finish_reason')
  if (finish === 'MAX_TOKENS') return [{ kind: 'truncated' }]
  if (typeof finish === 'string' && FILTERED.has(finish)) return [{ kind: 'error', code: 'content_filtered' }]
  return []
}

function errorOfCode(code: string, said: string): Meaning | null {
  if (HARMLESS.has(code)) return null
  if (code === 'MAX_TOKENS') return { kind: 'truncated' }
  if (FILTERED.has(code)) return { kind: 'error', code: 'content_filtered' }
  if (code === 'RESOURCE_EXHAUSTED') return { kind: 'error', code: 'rate_limited' }
  const failure = /^\d{3,6}$/.test(code) ? failureOfCode(Number(code), null) : null
  if (failure?.kind === 'auth') return { kind: 'error', code: 'reauth_required' }
  if (failure?.kind === 'session') return { kind: 'error', code: 'session_lost' }
  if (failure?.kind === 'rate_limited') return { kind: 'error', code: 'rate_limited' }
  if (failure?.kind === 'refused') {
    const { code: reason } = failure
    const named = reason === 'credits_exhausted' || reason === 'upgrade_required'
    return { kind: 'error', code: named ? reason : 'upstream_unavailable' }
  }
  return errorOfText(said)
}

function errorOfText(said: string): Meaning {
  const failure = failureOfText(said)
  if (failure?.kind === 'auth') return { kind: 'error', code: 'reauth_required' }
  if (failure?.kind === 'session') return { kind: 'error', code: 'session_lost' }
  const limited = /\bRESOURCE_EXHAUSTED\b|\b429\b/.test(said.slice(0, 2000))
  return { kind: 'error', code: limited ? 'rate_limited' : 'upstream_unavailable' }
}

function toolName(of: unknown): string {
  const name =
    typeof of === 'string' ? cleanText(of) : (textField(of, 'name', 'tool', 'tool_name') ?? 'unknown')
  return name.slice(0, MAX_NAME).toWellFormed()
}
