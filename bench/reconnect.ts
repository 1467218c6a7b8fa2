/**
 * `npm run bench:reconnect`: thousands of clients lose their connections at once while events flow, and are all back
 * within five seconds. How long until each has what it missed, what that costs the database and the server; beside it
 * the usual bridge, which asks the database for each client. Same upstream, same clients, one after the other.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startEmbedded } from '../src/db/embedded.ts'
import { post, settings, signIn, startGateway } from './gateway.ts'
import { cpuSeconds, cpuSecondsBelow, memory, postmasterOf, type Server, serve } from './processes.ts'
import { createStormClient, type Door, type StormClient } from './storm-client.ts'

const PROJECTS = 100
const CLIENTS = Math.min(Number(process.env.CLIENTS ?? 10_000), await machineLimit())
const AWAY_MS = { least: 500, most: 5_000 }
/** Events of each project before the cut, while everybody is away, and after it. */
const EVENTS = { before: 10, away: 50, after: 30 }
const PACES = `${EVENTS.before}@${2 * PROJECTS},${EVENTS.away}@${20 * PROJECTS},${EVENTS.after}@${2 * PROJECTS}`
const ALL = EVENTS.before + EVENTS.away + EVENTS.after
const LIMIT_MS = 90_000
/** How many come in at the same time before the storm. */
const AT_ONCE = 100

interface Figures {
  gap: number
  caughtUp99: number
  caughtUp100: number
  setbacks: number
  readsPerClient: number
  cpu: number
  databaseCpu: number
  loadCpu: number
  idleMiB: number
  peakMiB: number
}

interface Project {
  run(): Promise<void>
  doors: Door[]
}

/** A server under test, and how its projects and their clients' sessions are made. */
interface Peer {
  name: string
  start(): Promise<Server>
  project(server: Server): Promise<Project>
}

const dataDir = await mkdtemp(join(tmpdir(), 'reelgate-bench-'))
const postgres = await startEmbedded(dataDir, ['-c', 'shared_preload_libraries=pg_stat_statements'])
const postmaster = await postmasterOf(dataDir)
const db = new pg.Pool({ connectionString: postgres.url, max: 2 })
const stops = [
  () => rm(dataDir, { recursive: true, force: true }),
  () => postgres.stop(),
  () => db.end() as Promise<unknown>,
]
const figures = new Map<string, Figures>()
try {
  await db.query(`create extension pg_stat_statements;
    create table bridge_sessions (token_hash bytea primary key);
    create table bridge_events (project_id text, seq bigint, at timestamptz default now(), chunk jsonb,
      primary key (project_id, seq))`)
  const upstream = await serve('./upstream.ts', {})
  stops.push(upstream.stop)
  const env = settings({ database: postgres.url, upstream: upstream.url })
  for (const peer of [reelgate(env), bridge(env)]) {
    if (process.env.ONLY && !peer.name.startsWith(process.env.ONLY)) continue
    const server = await peer.start()
    stops.push(server.stop)
    figures.set(peer.name, await storm(peer, server, upstream.url))
    await stops.pop()!()
  }
  print()
} finally {
  for (const stop of stops.reverse()) await stop()
}

function reelgate(env: Record<string, string>): Peer {
  return {
    name: 'reelgate',
    start: () => startGateway(env),
    async project({ url }) {
      const guest = await signIn(url)
      const { id } = guest
      const tokens = newTokens()
      await db.query(
        `insert into client_sessions (id, user_id, token_hash, delivery, expires_at)
        select gen_random_uuid(), $1, hash, 'bearer', now() + interval '1 day' from unnest($2::bytea[]) hash`,
        [guest.userId, tokens.map(hash)],
      )
      return {
        doors: tokens.map(token => ({
          token,
          path: () => '/v1/live',
          hello: after => ({ type: 'subscribe', projectId: id, ...(after && { after }) }),
        })),
        async run() {
          const message = { text: 'Tell me more', intent: 'chat' }
          const answer = await post(`${url}/v1/projects/${id}/messages`, message, guest.token)
          if (!answer.run) throw new Error(`No run: ${JSON.stringify(answer)}`)
        },
      }
    },
  }
}

function bridge(env: Record<string, string>): Peer {
  return {
    name: 'Fastify, SELECT per client',
    start: () => serve('./peers/fastify-catch-up.ts', env),
    async project({ url }) {
      const id = crypto.randomUUID()
      const tokens = newTokens()
      await db.query('insert into bridge_sessions select * from unnest($1::bytea[])', [tokens.map(hash)])
      return {
        doors: tokens.map(token => ({
          token,
          path: after => `/live?projectId=${id}${after ? `&after=${after}` : ''}`,
        })),
        run: async () => void (await fetch(`${url}/run?projectId=${id}`, { method: 'POST' })),
      }
    },
  }
}

/** Everybody comes in, is cut off in the middle of the events, and comes back. */
async function storm(peer: Peer, server: Server, upstream: string): Promise<Figures> {
  const projects: Project[] = []
  while (projects.length < PROJECTS) projects.push(await peer.project(server))
  const cutting = Promise.withResolvers<void>()
  const caughtUp = Promise.withResolvers<void>()
  const over = Promise.withResolvers<void>()
  const [left, missed] = [new Map<StormClient, number>(), [] as number[]]
  const backAt = new Map<StormClient, number>()
  const took: number[] = []
  let [ready, done, cutAt] = [0, 0, 0]

  const clients = projects
    .flatMap(({ doors }) => doors)
    .map(door =>
      createStormClient(server.url, door, ALL, (client, sentAt) => {
        if (client.seen === EVENTS.before && ++ready === CLIENTS) cutting.resolve()
        // It has caught up with the first event that was sent after it came back.
        if (sentAt > (backAt.get(client) ?? Number.POSITIVE_INFINITY)) {
          backAt.delete(client)
          took.push(performance.now() - cutAt)
          missed.push(client.seen - 1 - left.get(client)!)
          if (took.length === CLIENTS) caughtUp.resolve()
        }
        if (client.seen === ALL && ++done === CLIENTS) over.resolve()
      }),
    )
  const limit = setTimeout(() => {
    const late = clients.find(({ seen }) => seen < ALL)
    const error = new Error(
      `${peer.name}: ${ready} were ready, ${took.length} caught up, ${done} have all; one has ${late?.seen}: ${late?.setbacks}`,
    )
    for (const { reject } of [cutting, caughtUp, over]) reject(error)
  }, LIMIT_MS)
  for (const { promise } of [cutting, caughtUp, over]) promise.catch(() => {})

  const waiting = clients.values()
  const comingIn = Array.from({ length: AT_ONCE }, async () => {
    for (const client of waiting) await client.comeIn()
  })
  await Promise.race([Promise.all(comingIn), cutting.promise])
  const idleMiB = (await memory(server.child.pid!)).now
  await Promise.all(projects.map(({ run }) => run()))
  await fetch(`${upstream}/__open?streams=${PROJECTS}`).then(answer => answer.text())
  const sent = fetch(`${upstream}/__go?paces=${PACES}`, { method: 'POST' })
  await cutting.promise

  const before = await costs(server)
  cutAt = performance.now()
  for (const client of clients) {
    left.set(client, client.seen)
    client.cut()
  }
  for (const client of clients)
    setTimeout(
      () => {
        backAt.set(client, performance.timeOrigin + performance.now())
        client.comeIn()
      },
      AWAY_MS.least + (AWAY_MS.most - AWAY_MS.least) * Math.random(),
    )
  await caughtUp.promise
  const after = await costs(server)
  await Promise.all([over.promise, sent.then(answer => answer.text())])
  await fetch(`${upstream}/__end`, { method: 'POST' }).then(answer => answer.text())
  clearTimeout(limit)

  for (const { seen, wrong } of clients)
    if (seen !== ALL || wrong > 0) throw new Error(`${peer.name}: ${seen} of ${ALL} in order, ${wrong} not`)
  const peakMiB = (await memory(server.child.pid!)).peak
  for (const client of clients) client.cut()
  took.sort((a, b) => a - b)
  missed.sort((a, b) => a - b)
  const [reads, cpu, databaseCpu, loadCpu] = after.map((value, i) => value - before[i]!)
  return {
    gap: missed[CLIENTS >> 1]!,
    caughtUp99: took[Math.floor(CLIENTS * 0.99)]!,
    caughtUp100: took.at(-1)!,
    setbacks: clients.reduce((sum, { setbacks }) => sum + setbacks.length, 0),
    readsPerClient: reads! / CLIENTS,
    cpu: cpu!,
    databaseCpu: databaseCpu!,
    loadCpu: loadCpu!,
    idleMiB,
    peakMiB,
  }
}

/** Reads of what clients ask for so far, and CPU seconds of the server, of Postgres and of the clients. */
async function costs({ child }: Server): Promise<number[]> {
  const { rows } = await db.query(`select coalesce(sum(calls), 0)::float8 as reads from pg_stat_statements
    where query ~* '^\\s*(select|with)' and query ~* 'events|projects|sessions' and query !~* 'insert into'`)
  const { user, system } = process.cpuUsage()
  return [
    rows[0].reads,
    await cpuSeconds(child.pid!),
    await cpuSecondsBelow(postmaster),
    (user + system) / 1e6,
  ]
}

function newTokens(): string[] {
  return Array.from({ length: CLIENTS / PROJECTS }, () => `rg_${randomBytes(32).toString('base64url')}`)
}

function hash(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** As many connections as one process may have open and ports there are, in whole hundreds. */
async function machineLimit(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8')
  const files = Number(/^Max open files\s+\d+\s+(\d+)/m.exec(limits)?.[1])
  const [from, to] = (await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'))
    .trim()
    .split(/\s+/)
    .map(Number)
  return Math.floor((Math.min(files, to! - from!) - 1_000) / PROJECTS) * PROJECTS
}

function print() {
  console.log(
    `${CLIENTS} clients of ${PROJECTS} projects, cut off at once, back within ${AWAY_MS.most / 1_000} s; ${EVENTS.away} events a project while they are away.\nEach has every event, once and in order.\n`,
  )
  const rows: [string, keyof Figures, number][] = [
    ['missed, median (events)', 'gap', 0],
    ['99 % caught up (ms)', 'caughtUp99', 0],
    ['100 % caught up (ms)', 'caughtUp100', 0],
    ['turned away, came again', 'setbacks', 0],
    ['database reads a client', 'readsPerClient', 4],
    ['server CPU (s)', 'cpu', 2],
    ['Postgres CPU (s)', 'databaseCpu', 2],
    ['clients CPU (s)', 'loadCpu', 2],
    ['memory before (MiB)', 'idleMiB', 0],
    ['memory at most (MiB)', 'peakMiB', 0],
  ]
  const names = [...figures.keys()]
  console.log(''.padEnd(28) + names.map(name => name.padStart(28)).join(''))
  for (const [title, key, digits] of rows)
    console.log(
      title.padEnd(28) +
        names.map(name => figures.get(name)![key].toFixed(digits).padStart(28)).join('') +
        ratio(key),
    )

  function ratio(key: keyof Figures): string {
    const [ours, theirs] = [...figures.values()].map(each => each[key])
    return ours !== undefined && theirs ? `   ${(ours / theirs).toFixed(2)}×` : ''
  }
}
