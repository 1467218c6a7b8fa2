import { headerValue, isToken, platformWord } from './checks.ts'
import { type Answer, classify, type Failure, type Outcome, PROTOCOL } from './failures.ts'
import type { JsonObject } from './fields.ts'
import { type Call, createPools, deadline, type Pools, readAnswer, type Sent, send } from './transport.ts'

export interface Credential {
  token: string
  /** Becomes `X-Skill-Platform`. */
  platform: string
}

export interface Endpoint {
  origin: string
  pools: Pools
  send(pool: keyof Omit<Pools, 'close'>, call: Omit<Call, 'origin'>): Promise<Sent>
  /** One JSON call, read whole: the parsed body and its text. `ms` bounds all of it. */
  ask(question: Question): Promise<Outcome<{ json: JsonObject; text: string }>>
  /** The headers of every call (§1). Null when the token cannot stand in a header, so cannot be a token. */
  headers(credential: Credential): Record<string, string> | null
  attribution(platform: string): Record<string, string>
}

export interface Question {
  pool: 'read' | 'once' | 'upload'
  path: string
  headers: Record<string, string> | null
  /** JSON text; makes the call a POST. `''` is a POST without a body. */
  body?: string
  ms?: number
  classify?: (answer: Answer) => Outcome<JsonObject>
}

/** Drafts can be large (§2.7). */
export const MAX_BODY_BYTES = 32 * 1024 * 1024
const CALL_MS = 10_000

/** One origin, its connections and its headers: what all calls to the upstream have in common. */
export function createEndpoint(options: {
  apiUrl: string
  skillSource: string
  skillVersion: string
}): Endpoint {
  const { origin, pathname } = new URL(options.apiUrl)
  const prefix = pathname.replace(/\/+$/, '')
  const pools = createPools(origin)
  const source = headerValue(options.skillSource)
  const version = headerValue(options.skillVersion)

  function attribution(platform: string) {
    return {
      'x-skill-source': source,
      'x-skill-version': version,
      'x-skill-platform': platformWord(platform),
    }
  }

  function headers({ token, platform }: Credential) {
    return isToken(token) ? { authorization: `Bearer ${token}`, ...attribution(platform) } : null
  }

  function sendHere(pool: keyof Omit<Pools, 'close'>, call: Omit<Call, 'origin'>) {
    return send(pools[pool], { ...call, origin, path: prefix + call.path })
  }

  async function ask(question: Question): Promise<Outcome<{ json: JsonObject; text: string }>> {
    if (question.headers === null) return { kind: 'auth' }
    const { body } = question
    const { signal, stop } = deadline(question.ms ?? CALL_MS)
    try {
      const sent = await sendHere(question.pool, {
        path: question.path,
        method: body === undefined ? 'GET' : 'POST',
        headers: { accept: 'application/json', ...(body && JSON_TYPE), ...question.headers },
        ...(body && { body }),
        signal,
      })
      if (sent.kind !== 'reply') return sent
      const read = await readAnswer(sent.reply, MAX_BODY_BYTES, signal)
      if (read.kind !== 'answer') return read
      const outcome = (question.classify ?? classify)(read.answer)
      if (outcome.kind !== 'ok') return outcome
      return { kind: 'ok', value: { json: outcome.value, text: read.answer.body ?? '' } }
    } finally {
      stop()
    }
  }

  return { origin, pools, send: sendHere, ask, headers, attribution }
}

export const JSON_TYPE = { 'content-type': 'application/json' }

/** What a decoder made of an answer; null means that the answer had another shape than it should. */
export function decoded<T>(value: T | null): Outcome<T> {
  return value === null ? (PROTOCOL as Failure) : { kind: 'ok', value }
}
