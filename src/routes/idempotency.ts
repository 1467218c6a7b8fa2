import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../problems.ts'
import type { Idempotency } from '../services/idempotency.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The Idempotency-Key of a request that is run for the first time, or again after a crash. */
    requestKey: string | undefined
  }
  interface FastifyContextConfig {
    /** The route creates or starts something and honours `Idempotency-Key`. */
    idempotent?: boolean
  }
}

const KEPT_HEADERS = ['content-type', 'location']

/** Honours `Idempotency-Key` on the routes that say so: the same request gets the same answer for 24 h. */
export function addIdempotency(app: FastifyInstance, idempotency: Idempotency) {
  app.decorateRequest('requestKey', undefined)

  const idOf = (request: FastifyRequest) => ({
    userId: request.session.user.id,
    route: `${request.method} ${request.url.split('?')[0]}`,
    key: request.requestKey!,
  })

  app.addHook('preHandler', async (request: FastifyRequest, reply: FastifyReply) => {
    const header = request.headers['idempotency-key']
    if (!request.routeOptions.config.idempotent || header === undefined) return
    const key = String(header)
    if (!/^[\x21-\x7e]{1,255}$/.test(key))
      throw new ProblemError('invalid_request', 'Idempotency-Key must have 1 to 255 printable characters.')
    request.requestKey = key
    const answer = await idempotency.begin(idOf(request), request.body).catch(error => {
      request.requestKey = undefined
      throw error
    })
    if (!answer) return
    request.requestKey = undefined
    await reply
      .code(answer.status)
      .headers({ ...answer.headers, 'idempotent-replayed': 'true' })
      .serializer(String)
      .send(answer.body)
  })

  // Before the first byte of the answer: what the client was told must survive a crash right after.
  app.addHook('onSend', async (request, reply, payload) => {
    if (request.requestKey === undefined) return
    const headers: Record<string, string> = {}
    for (const name of KEPT_HEADERS) {
      const value = reply.getHeader(name)
      if (value !== undefined) headers[name] = String(value)
    }
    await idempotency.end(idOf(request), { status: reply.statusCode, headers, body: String(payload ?? '') })
  })
}
