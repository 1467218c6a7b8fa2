import type { IncomingMessage, ServerResponse } from 'node:http'

/** What a handler answers. Handlers never write: so a fault can delay, change or lose any answer. */
export interface Reply {
  status: number
  headers?: Record<string, string>
  body?: string | Buffer
  /** instead of `body`: writes and ends the response itself */
  pour?: (res: ServerResponse) => Promise<void>
  /** the journal's word for it; default from the status */
  answer?: string
}

export function json(status: number, body: unknown): Reply {
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
}

/** `{"code":0,…}` (§1) */
export function success(data: unknown): Reply {
  return { ...json(200, { code: 0, message: 'success', data }), answer: 'ok' }
}

/** An error in the envelope; its HTTP status tells nothing (§0.8). */
export function failure(code: number, message: string, status = 200): Reply {
  return { ...json(status, { code, message, data: null }), answer: `code ${code}` }
}

/** An error as FastAPI spells it. */
export function detail(status: number, text: unknown): Reply {
  return json(status, { detail: text })
}

/** A 422 as FastAPI spells it. */
export function invalid(field: string, msg: string): Reply {
  return detail(422, [{ type: 'value_error', loc: ['body', field], msg }])
}

/** The whole body as text, at most 32 MiB; null when it is longer. */
export async function readText(req: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of req) {
    bytes += chunk.length
    if (bytes <= 32 * 1024 * 1024) chunks.push(chunk)
  }
  return bytes <= 32 * 1024 * 1024 ? Buffer.concat(chunks).toString('utf8') : null
}

/** The parsed body when it is a JSON object, else null. */
export function parseObject(text: string | null): Record<string, unknown> | null {
  try {
    const value = JSON.parse(text ?? '')
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : null
  } catch {
    return null
  }
}

/** Sends an answer that is not poured. */
export function send(res: ServerResponse, reply: Reply) {
  const length =
    reply.status === 304 || reply.status === 204
      ? {}
      : { 'content-length': Buffer.byteLength(reply.body ?? '') }
  res.writeHead(reply.status, { ...length, ...reply.headers })
  res.end(reply.body)
}
