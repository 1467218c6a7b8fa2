/**
 * `npm run bench:rest`: a signed-in GET that is answered from the database, through reelgate and through what one
 * would write by hand, in turn on one machine, by as many users as there are connections. The other one logs nothing,
 * limits nobody and has no row level security. Figures move from machine to machine; the ratios are what counts.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'undici'
import { startEmbedded } from '../src/db/embedded.ts'
import { settings, signIn, startGateway } from './gateway.ts'
import { cpuSeconds, type Server, serve } from './processes.ts'

const ROUNDS = 3
const ROUND_MS = 4_000
const WARM_UP_MS = 1_500
const CONNECTIONS = 50

const dataDir = await mkdtemp(join(tmpdir(), 'reelgate-bench-'))
const postgres = await startEmbedded(dataDir)
const env = {
  ...settings({ database: postgres.url, upstream: 'http://127.0.0.1:9' }),
  LOG_LEVEL: 'info',
}
const reelgate = await startGateway(env)
const peer = await serve('./peers/fastify-pg.ts', env)
const users = await Promise.all(Array.from({ length: CONNECTIONS }, () => enter(reelgate.url)))

const results = { reelgate: [] as Round[], peer: [] as Round[] }
for (const server of [reelgate, peer]) await load(server, WARM_UP_MS)
for (let round = 0; round < ROUNDS; round++) {
  results.reelgate.push(await load(reelgate, ROUND_MS))
  results.peer.push(await load(peer, ROUND_MS))
}
const [ours, theirs] = [median(results.reelgate), median(results.peer)]
console.log(
  `GET /v1/projects/{id}, signed in, ${CONNECTIONS} users at once, median of ${ROUNDS} rounds in turn\n`,
)
console.log('                        requests/s   CPU-s per million   p99 ms')
for (const [name, { perSecond, cpuPerMillion, p99 }] of [
  ['reelgate', ours],
  ['Fastify + pg by hand', theirs],
] as const)
  console.log(
    `${name.padEnd(22)}${perSecond.toFixed(0).padStart(12)}${cpuPerMillion.toFixed(0).padStart(20)}${p99.toFixed(1).padStart(9)}`,
  )
const ratio = (a: number, b: number) => (a / b).toFixed(2).padStart(9)
console.log(
  `${'ratio'.padEnd(22)}${ratio(ours.perSecond, theirs.perSecond).padStart(12)}${ratio(ours.cpuPerMillion, theirs.cpuPerMillion).padStart(20)}${ratio(ours.p99, theirs.p99)}`,
)

for (const server of [reelgate, peer]) await server.stop()
await postgres.stop()
await rm(dataDir, { recursive: true, force: true })

interface Round {
  perSecond: number
  cpuPerMillion: number
  p99: number
}

interface User {
  path: string
  headers: Record<string, string>
}

async function enter(url: string): Promise<User> {
  const { token, id } = await signIn(url)
  return { path: `/v1/projects/${id}`, headers: { authorization: `Bearer ${token}` } }
}

async function load({ child, url }: Server, ms: number): Promise<Round> {
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: 1 })
  const times: number[] = []
  const cpuBefore = await cpuSeconds(child.pid!)
  const startedAt = performance.now()
  const ask = async ({ path, headers }: User) => {
    while (performance.now() - startedAt < ms) {
      const askedAt = performance.now()
      const { statusCode, body } = await pool.request({ method: 'GET', path, headers })
      await body.dump()
      if (statusCode !== 200) throw new Error(`${url} answered ${statusCode}`)
      times.push(performance.now() - askedAt)
    }
  }
  await Promise.all(users.map(ask))
  const seconds = (performance.now() - startedAt) / 1_000
  const cpu = (await cpuSeconds(child.pid!)) - cpuBefore
  await pool.close()
  times.sort((a, b) => a - b)
  return {
    perSecond: times.length / seconds,
    cpuPerMillion: (cpu / times.length) * 1_000_000,
    p99: times[Math.floor(times.length * 0.99)]!,
  }
}

function median(rounds: Round[]): Round {
  return rounds.toSorted((a, b) => a.perSecond - b.perSecond)[Math.floor(rounds.length / 2)]!
}
