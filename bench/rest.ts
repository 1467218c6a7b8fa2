/**
 * `npm run bench:rest`: a signed-in GET that is answered from the database, through reelgate and through what one
 * would write by hand, in turn on one machine, by as many users as there are connections. The other one logs nothing,
 * limits nobody and has no row level security. Figures move from machine to machine; the ratios are what counts.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'undici'
import { startEmbedded } from '../src/db/embedded.ts'

const ROUNDS = 3
const ROUND_MS = 4_000
const WARM_UP_MS = 1_500
const CONNECTIONS = 50
const TICKS_PER_SECOND = 100

const dataDir = await mkdtemp(join(tmpdir(), 'reelgate-bench-'))
const postgres = await startEmbedded(dataDir)
const env = {
  PATH: process.env.PATH,
  DATABASE_URL: postgres.url,
  NEMO_API_URL: 'http://127.0.0.1:9',
  TOKEN_KEYS: `bench:${Buffer.alloc(32, 1).toString('base64')}`,
  PORT: '0',
  // Everything comes from one address.
  RATE_LIMIT_PER_MINUTE: '100000000',
  GUESTS_PER_MINUTE: '1000',
}
const reelgate = await serve('../src/server.ts')
const peer = await serve('./peers/fastify-pg.ts')
const users = await Promise.all(Array.from({ length: CONNECTIONS }, () => signIn(reelgate.url)))

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

for (const { child } of [reelgate, peer]) {
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  await gone
}
await postgres.stop()
await rm(dataDir, { recursive: true, force: true })

interface Server {
  child: ChildProcess
  url: string
}

interface Round {
  perSecond: number
  cpuPerMillion: number
  p99: number
}

async function serve(script: string): Promise<Server> {
  const child = spawn(process.execPath, [new URL(script, import.meta.url).pathname], {
    env: { ...env, LOG_LEVEL: 'info' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', chunk => {
    if (text.length < 10_000) text += chunk
  })
  while (true) {
    await once(child.stdout, 'data')
    const url = /Server listening at (\S+?)["\s]/.exec(text)?.[1]
    if (url) return { child, url }
  }
}

interface User {
  path: string
  headers: Record<string, string>
}

/** A guest with a project of its own. */
async function signIn(url: string): Promise<User> {
  const json = { 'content-type': 'application/json' }
  const guest = await fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: json,
    body: '{"delivery":"bearer"}',
  })
  const { token } = (await guest.json()) as { token: string }
  const headers = { authorization: `Bearer ${token}` }
  const created = await fetch(`${url}/v1/projects`, {
    method: 'POST',
    headers: { ...json, ...headers },
    body: '{}',
  })
  const { id } = (await created.json()) as { id: string }
  return { path: `/v1/projects/${id}`, headers }
}

async function load({ child, url }: Server, ms: number): Promise<Round> {
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: 1 })
  const times: number[] = []
  const cpuBefore = await cpuSeconds(child)
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
  const cpu = (await cpuSeconds(child)) - cpuBefore
  await pool.close()
  times.sort((a, b) => a - b)
  return {
    perSecond: times.length / seconds,
    cpuPerMillion: (cpu / times.length) * 1_000_000,
    p99: times[Math.floor(times.length * 0.99)]!,
  }
}

/** User and system time of a process so far (Linux). */
async function cpuSeconds({ pid }: ChildProcess): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

function median(rounds: Round[]): Round {
  return rounds.toSorted((a, b) => a.perSecond - b.perSecond)[Math.floor(rounds.length / 2)]!
}
