import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../problems.ts'

export interface BodyPace {
  /** A JSON body has arrived after this long. */
  wholeMs: number
  /** A streamed body may take hours, but brings `bytes` in each `everyMs`. */
  streamed: { everyMs: number; bytes: number }
}

const PACE: BodyPace = { wholeMs: 15_000, streamed: { everyMs: 60_000, bytes: 600_000 } }

/**
 * Lets go of clients that send their body a byte at a time, to hold a connection for nothing. Node's own limit counts
 * the whole request and would end every long upload.
 */
export function refuseSlowBodies(app: FastifyInstance, pace = PACE) {
  app.addHook('onRequest', (request, reply, done) => {
    const { headers } = request.raw
    if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0)
      watch(request, reply, pace)
    done()
  })
}

function watch(request: FastifyRequest, reply: FastifyReply, { wholeMs, streamed }: BodyPace) {
  const { raw } = request
  const isJson = /^\s*application\/json\b/i.test(raw.headers['content-type'] ?? '')
  let read = raw.socket.bytesRead
  const timer = isJson
    ? setTimeout(() => letGo(request, reply), wholeMs)
    : setInterval(() => {
        const arrived = raw.socket.bytesRead - read
        read += arrived
        // What lies here unread is not for the client to hurry.
        if (arrived < streamed.bytes && raw.readableLength === 0) letGo(request, reply)
      }, streamed.everyMs)
  // A body that nobody reads to its end closes late or never.
  timer.unref()
  raw.once('close', () => clearTimeout(timer))
}

function letGo({ raw }: FastifyRequest, reply: FastifyReply) {
  if (raw.complete) return
  const isAwaited = !reply.sent && raw.listenerCount('error') > 0
  // When nobody reads the body any more, all has been said already.
  if (!isAwaited) return raw.destroy()
  reply.header('connection', 'close')
  raw.emit('error', new ProblemError('invalid_request', 'The body did not arrive in time.'))
}
