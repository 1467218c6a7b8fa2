import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { Json } from './client.ts'

export interface Span {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  status?: { code?: number; message?: string }
  attributes: { key: string; value: Json }[]
}

/** An OTLP/HTTP collector: keeps what it is sent, as the exporter sends it. */
export async function startCollector(t: Test) {
  const bodies: string[] = []
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    if (request.method === 'POST' && request.url === '/v1/traces') bodies.push(body)
    response.setHeader('content-type', 'application/json').end('{}')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const resourceSpans = () => bodies.flatMap(body => (JSON.parse(body) as Json).resourceSpans)
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    text: () => bodies.join(),
    resources: resourceSpans,
    spans: (): Span[] => resourceSpans().flatMap((r: Json) => r.scopeSpans.flatMap((s: Json) => s.spans)),
  }
}
