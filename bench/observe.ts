/**
 * `npm run bench:observe`: what it costs to be looked at. One gateway without OPS_TOKEN and collector, one with
 * /metrics (scraped every 5 s), one that sends traces, in turn on one machine: a signed-in GET, and a project that is
 * made and told of in the log. CPU of the gateway's process; the ratios are what counts.
 */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import { startEmbedded } from '../src/db/embedded.ts'
import { settings, signIn, startGateway } from './gateway.ts'
import { cpuSeconds, type Server } from './processes.ts'

const ROUNDS = 5
const CONNECTIONS = 8
const SCRAPE_MS = 5_000
const WORK = { GET: 4_000, POST: 800 }
type Method = keyof typeof WORK

const dataDir = await mkdtemp(join(tmpdir(), 'reelgate-bench-'))
const postgres = await startEmbedded(dataDir)
const collector = createServer((request, response) => {
  request.resume().on('end', () => response.setHeader('content-type', 'application/json').end('{}'))
}).listen(0, '127.0.0.1')
await once(collector, 'listening')
const common = {
  ...settings({ database: postgres.url, upstream: 'http://127.0.0.1:9' }),
  LOG_LEVEL: 'info',
}
const OPS_TOKEN = 'bench'
const OTEL_EXPORTER_OTLP_ENDPOINT = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
const variants = {
  neither: {},
  '/metrics': { OPS_TOKEN },
  traces: { OTEL_EXPORTER_OTLP_ENDPOINT },
  both: { OPS_TOKEN, OTEL_EXPORTER_OTLP_ENDPOINT },
}

const subjects: { name: string; server: Server; token: string; ms: Record<Method, number[]> }[] = []
for (const [name, env] of Object.entries(variants)) {
  const server = await startGateway({ ...common, ...env })
  subjects.push({ name, server, token: (await signIn(server.url)).token, ms: { GET: [], POST: [] } })
}
const scraping = setInterval(() => {
  for (const { server } of subjects)
    fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${OPS_TOKEN}` } })
      .then(answer => answer.text())
      .catch(() => {})
}, SCRAPE_MS)
try {
  for (let round = 0; round <= ROUNDS; round++)
    for (const subject of subjects)
      for (const method of ['GET', 'POST'] as const) {
        const ms = await cpuMsOfRequest(subject.server, subject.token, method)
        // The first round warms up.
        if (round > 0) subject.ms[method].push(ms)
      }
  console.log(
    `CPU of the gateway for a request, µs, median of ${ROUNDS} rounds in turn; in brackets, to neither\n`,
  )
  console.log('                 GET /v1/projects/{id}     POST /v1/projects')
  const [neither] = subjects
  for (const { name, ms } of subjects) {
    const cell = (method: Method) => {
      const own = median(ms[method])
      const ratio = own / median(neither!.ms[method])
      return `${(own * 1_000).toFixed(0)} (${ratio.toFixed(2)})`.padStart(22)
    }
    console.log(`${name.padEnd(14)}${cell('GET')}${cell('POST')}`)
  }
} finally {
  clearInterval(scraping)
  await Promise.all(subjects.map(({ server }) => server.stop()))
  collector.closeAllConnections()
  collector.close()
  await postgres.stop()
  await rm(dataDir, { recursive: true, force: true })
}

async function cpuMsOfRequest({ child, url }: Server, token: string, method: Method): Promise<number> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: 1 })
  const create = async (): Promise<string> => {
    const { statusCode, body } = await pool.request({
      method: 'POST',
      path: '/v1/projects',
      headers,
      body: '{}',
    })
    if (statusCode === 503) return sleep(100).then(create)
    if (statusCode !== 201) throw new Error(`${url} answered ${statusCode}: ${await body.text()}`)
    return ((await body.json()) as { id: string }).id
  }
  const id = await create()
  const read = async (): Promise<void> => {
    const { statusCode, body } = await pool.request({ method: 'GET', path: `/v1/projects/${id}`, headers })
    await body.dump()
    // On a busy machine its event loop lags, and it says so instead of answering.
    if (statusCode === 503) await sleep(100).then(read)
    else if (statusCode !== 200) throw new Error(`${url} answered ${statusCode}`)
  }
  let left = WORK[method]
  const worker = async () => {
    while (left-- > 0) await (method === 'GET' ? read() : create())
  }
  const before = await cpuSeconds(child.pid!)
  await Promise.all(Array.from({ length: CONNECTIONS }, worker))
  const seconds = (await cpuSeconds(child.pid!)) - before
  await pool.close()
  return (seconds * 1_000) / WORK[method]
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!
}
