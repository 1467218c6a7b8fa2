import underPressure from '@fastify/under-pressure'
import type { FastifyInstance } from 'fastify'
import { ProblemError } from '../problems.ts'

const MAX_LOOP_DELAY_MS = 1_000
const SAMPLE_MS = 1_000

/**
 * Sheds load while the event loop lags: a quick 503 is worth more than an answer that nobody waits for any more. One
 * long pause, such as the start, is not overload; two samples in a row are.
 */
export async function shedLoad(app: FastifyInstance, maxLoopDelayMs = MAX_LOOP_DELAY_MS) {
  let sample = { delay: 0, at: 0, row: 0 }

  await app.register(underPressure, {
    maxEventLoopDelay: maxLoopDelayMs,
    sampleInterval: SAMPLE_MS,
    pressureHandler(request, _reply, _type, delay = 0) {
      const now = performance.now()
      if (delay !== sample.delay)
        sample = { delay, at: now, row: now - sample.at < delay + 3 * SAMPLE_MS ? sample.row + 1 : 1 }
      // A process that is busy is not dead; killing it would make the others busier.
      if (sample.row < 2 || request.routeOptions.url === '/healthz') return
      throw new ProblemError('overloaded', undefined, { retryAfterMs: 2_000 })
    },
  })
}
