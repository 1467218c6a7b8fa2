import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../problems.ts'

export interface BodyPace {
  /** A JSON body has arrived after this long. */
  wholeMs: number
  /** A streamed body brings `bytes` in each `everyMs`, and all of it has arrived after `wholeMs`. */
  streamed: { everyMs: number; bytes: number; wholeMs: number }
}

const PACE: BodyPace = {
  wholeMs: 15_000,
  streamed: { everyMs: 60_000, bytes: 600_000, wholeMs: 2 * 60 * 60_000 },
}

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
  const began = performance.now()
  let read = raw.socket.bytesRead
  const timer = isJson
    ? setTimeout(() => letGo(request, reply), wholeMs)
    : setInterval(look, streamed.everyMs)
  const stop = () => clearTimeout(timer)
  timer.unref()
  raw.once('close', stop)
  // One that has arrived, but that nobody reads to its end, closes late or never.
  reply.raw.once('close', () => raw.complete && stop())

  function look() {
    if (raw.complete) return stop()
    const arrived = raw.socket.bytesRead - read
    read += arrived
    // What lies here unread is not for the client to hurry.
    const isSlow = arrived < streamed.bytes && raw.readableLength === 0
    if (isSlow || performance.now() - began > streamed.wholeMs) letGo(request, reply)
  }
}

function letGo({ raw }: FastifyRequest, reply: FastifyReply) {
  if (raw.complete) return
  const isAwaited = !reply.sent && raw.listenerCount('error') > 0
  // When nobody reads the body any more, all has been said already.
  if (!isAwaited) return raw.destroy()
  reply.header('connection', 'close')
  raw.emit('error', new ProblemError('request_timeout', 'The body did not arrive in time.'))
}
