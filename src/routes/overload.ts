import type { FastifyInstance } from 'fastify'
import { ProblemError } from '../problems.ts'

const MAX_LOOP_DELAY_MS = 1_000
const TICK_MS = 100
const CALM_MS = 1_000
const OVERLOAD_PAUSES = 3

/**
 * Sheds load while the event loop lags: a quick 503 is worth more than an answer that nobody waits for any more. A long
 * pause or two, as at the start, are not overload; three without a calm second between them are.
 */
export function shedLoad(app: FastifyInstance, maxLoopDelayMs = MAX_LOOP_DELAY_MS) {
  let pauses = 0
  let pausedAt = 0
  let tickedAt = performance.now()
  // A clock of our own: the histogram of node:perf_hooks records nothing between two resets that one pause spans.
  const clock = setInterval(() => {
    const now = performance.now()
    if (now - tickedAt > TICK_MS + maxLoopDelayMs) {
      pauses++
      pausedAt = now
    } else if (now - pausedAt > CALM_MS) pauses = 0
    tickedAt = now
  }, TICK_MS).unref()
  app.addHook('onClose', async () => clearInterval(clock))

  app.addHook('onRequest', (request, _reply, done) => {
    // A process that is busy is not dead; killing it would make the others busier.
    if (pauses < OVERLOAD_PAUSES || request.routeOptions.url === '/healthz') done()
    else done(new ProblemError('overloaded', undefined, { retryAfterMs: 2_000 }))
  })
}
