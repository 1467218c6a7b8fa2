import { Readable } from 'node:stream'
import type { onSendHookHandler } from 'fastify'

const LINGER_MS = 2_000

/**
 * An answer before the end of the request goes out at once, but the connection is closed only when the client has
 * stopped sending, or after 2 s: closing it on unread bytes is a reset, which can swallow the answer.
 */
export const lingering: onSendHookHandler = async (request, reply, payload) => {
  const { raw } = request
  if (raw.complete || raw.destroyed || raw.method === 'HEAD' || typeof payload !== 'string') return payload
  reply.header('connection', 'close').header('content-length', Buffer.byteLength(payload))
  const answer = new Readable({ read() {} })
  const end = () => {
    clearTimeout(timer)
    if (!answer.readableEnded) answer.push(null)
  }
  const timer = setTimeout(end, LINGER_MS)
  answer.push(payload)
  answer.once('close', () => clearTimeout(timer))
  raw.unpipe()
  raw.once('end', end).once('close', end).resume()
  return answer
}
