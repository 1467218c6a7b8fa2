import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Tracing } from '../tracing.ts'

/** Each request is a span, in the client's trace if it names one; what the handler does belongs to it. */
export function traceRequests(app: FastifyInstance, tracing: Tracing) {
  const spans = new WeakMap<FastifyRequest, ReturnType<Tracing['begin']>>()

  app.addHook('onRequest', async request => {
    const { method, headers, id, routeOptions } = request
    // The route's pattern, never the address: an address carries ids and tickets.
    const route = routeOptions.url ?? 'none'
    const span = tracing.begin(`${method} ${route}`, {
      kind: 'server',
      traceparent: String(headers.traceparent ?? ''),
      attributes: { 'http.request.method': method, 'http.route': route, 'reelgate.request.id': id },
    })
    spans.set(request, span)
  })
  // Not earlier: a body is read in the context of its socket.
  app.addHook('preValidation', (request, _, done) => {
    spans.get(request)!.enter(done)
  })
  app.addHook('onResponse', async (request, { statusCode }) => {
    spans.get(request)?.end({ 'http.response.status_code': statusCode }, statusCode >= 500)
  })
}
