import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createUpstreamClient, type UpstreamOptions } from '../../../src/services/upstream/client.ts'

interface Teardown {
  teardown(work: () => unknown): void
}

export interface Heard {
  method: string
  url: string
  headers: IncomingMessage['headers']
  body: string
}

export const alice = { token: 'nmv_usr_alice', platform: 'web' }

/** A real server on 127.0.0.1 that keeps what it heard; closed with the test. */
export async function startOrigin(t: Teardown, answer: RequestListener) {
  const server = createServer(answer)
  let connections = 0
  server.on('connection', () => connections++)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, server, connections: () => connections }
}

/** An origin whose answer is written from the whole request, which it remembers. */
export async function startJournal(t: Teardown, answer: (heard: Heard, response: ServerResponse) => void) {
  const journal: Heard[] = []
  const origin = await startOrigin(t, async (request, response) => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk)
    } catch {
      return
    }
    const { method = '', url = '', headers } = request
    const heard = { method, url, headers, body: Buffer.concat(chunks).toString() }
    journal.push(heard)
    answer(heard, response)
  })
  return { ...origin, journal }
}

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(typeof body === 'string' ? body : JSON.stringify(body))
}

export function createClient(t: Teardown, apiUrl: string, options: Partial<UpstreamOptions> = {}) {
  const client = createUpstreamClient({
    apiUrl,
    webUrl: 'https://nemovideo.example',
    skillSource: 'reelgate',
    skillVersion: '1.2.3',
    bodyCase: 'snake',
    streaming: true,
    limits: { runMs: 60_000, silenceMs: 30_000 },
    ...options,
  })
  t.teardown(() => client.close())
  return client
}

/** A port of 127.0.0.1 on which nobody listens. */
export async function closedPort(): Promise<string> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return `http://127.0.0.1:${port}`
}
