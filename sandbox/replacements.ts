import { randomBytes } from 'node:crypto'
import type { Fault } from './fault.ts'
import { detail, failure, json, type Reply } from './http.ts'

const page = `<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx/1.25.3</center></body></html>\n`

/** The answer that stands in place of the real one; null for a fault that leaves the real one. */
export function replacementOf(fault: Fault): Reply | null {
  switch (fault.answer) {
    case 'code':
      return failure(fault.code, fault.message ?? messages[fault.code] ?? 'error', fault.status)
    case 'status': {
      const reply = json(fault.status, { code: fault.status, message: 'error', data: null })
      if (fault.retryAfter === undefined) return reply
      return { ...reply, headers: { ...reply.headers, 'retry-after': String(fault.retryAfter) } }
    }
    case 'detail':
      return detail(fault.status ?? 400, fault.detail)
    case 'html':
      return { status: fault.status ?? 502, headers: { 'content-type': 'text/html' }, body: page }
    case 'empty':
      return { status: fault.status ?? 200 }
    case 'garbage':
      return {
        ...json(fault.status ?? 200, null),
        body: Buffer.concat([Buffer.from('{"code":'), randomBytes(64)]),
      }
    case 'body': {
      const headers = { 'content-type': fault.contentType ?? 'application/json', ...fault.headers }
      return { status: fault.status ?? 200, headers, body: fault.body }
    }
    case 'hang':
    case 'reset':
      return { status: 0 }
    default:
      return null
  }
}

const messages: Record<number, string> = {
  1001: 'invalid token',
  1002: 'session not found',
  2001: 'insufficient credits',
  4001: 'unsupported file type',
  4002: 'file too large',
  402: 'export is not available on your plan',
}
