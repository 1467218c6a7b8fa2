/**
 * `npm run bench:events`: what one server does to bring an upstream's events to many WebSockets. reelgate stores each
 * event before anybody sees it; a plain `ws` bridge stores nothing; a Fastify bridge inserts each event before it
 * sends it. Same upstream, same subscribers (raw sockets), one after the other; medians. Ratios are what counts.
 *
 * A delivery is one event of the upstream seen by one subscriber. In the flood reelgate writes what arrives during a
 * commit as one entry, so its subscribers get the same text in fewer, larger frames: `bytes` says how many a delivery
 * takes.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startEmbedded } from '../src/db/embedded.ts'
import { post, settings, signIn, startGateway } from './gateway.ts'
import { cpuSeconds, cpuSecondsBelow, memory, postmasterOf, type Server, serve } from './processes.ts'
import { openReader, type RawReader } from './raw-reader.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 3)
const PROJECTS = 10
const READERS_PER_PROJECT = 50
const RATE = { perSecond: 200, events: 1_000 }
const FLOOD = { perSecond: 0, events: 10_000 }
const WARM_UP = [{ perSecond: 400, events: 1_000 }, FLOOD]
/** The first ones pay for what the process needs once, and for what it has not collected yet. */
const IDLE_READERS = { first: 4_000, more: 4_000 }
const ROUND_LIMIT_MS = 60_000

interface Round {
  perSecond: number
  p50: number
  p99: number
  /** CPU seconds per million deliveries: of the server, of Postgres, of the load generator */
  cpu: number
  databaseCpu: number
  loadCpu: number
  peakMiB: number
  bytes: number
}

/** A server under test: how a project is made, followed and told to begin. */
interface Peer {
  name: string
  start(): Promise<Server>
  project(server: Server): Promise<{ follow: Parameters<typeof openReader>[1]; run(): Promise<void> }>
}

const dataDir = await mkdtemp(join(tmpdir(), 'reelgate-bench-'))
const postgres = await startEmbedded(dataDir)
const postmaster = await postmasterOf(dataDir)
const upstream = await serve('./upstream.ts', {})
const env = { ...settings({ database: postgres.url, upstream: upstream.url }), LOG_LEVEL: 'warn' }

const bridge = (name: string, script: string): Peer => ({
  name,
  start: () => serve(script, env),
  async project(server) {
    const id = crypto.randomUUID()
    return {
      follow: { path: `/live?projectId=${id}`, expect: '"subscribed"' },
      run: async () => void (await fetch(`${server.url}/run?projectId=${id}`, { method: 'POST' })),
    }
  },
})
const reelgate: Peer = {
  name: 'reelgate, all stored',
  start: () => startGateway({ ...env, LOG_LEVEL: 'info' }),
  async project(server) {
    const { token, id } = await signIn(server.url)
    return {
      follow: {
        path: '/v1/live',
        headers: { Authorization: `Bearer ${token}` },
        send: JSON.stringify({ type: 'subscribe', projectId: id }),
        expect: '"subscribed"',
      },
      async run() {
        const answer = await post(
          `${server.url}/v1/projects/${id}/messages`,
          { text: 'Tell me more', intent: 'chat' },
          token,
        )
        if (!answer.run) throw new Error(`No run: ${JSON.stringify(answer)}`)
      },
    }
  },
}
const peers = [
  reelgate,
  bridge('ws bridge, none stored', './peers/ws-bridge.ts'),
  bridge('Fastify, INSERT per event', './peers/fastify-bridge.ts'),
].filter(({ name }) => !process.env.ONLY || name.startsWith(process.env.ONLY))

const results = new Map(
  peers.map(({ name }) => [name, { rate: [] as Round[], flood: [] as Round[], idleKiB: 0 }]),
)
for (let round = 0; round < ROUNDS; round++)
  for (const peer of peers) {
    const server = await peer.start()
    const result = results.get(peer.name)!
    // Both on a server that is warm: what a process does once in its life, as to compile, is not what is compared.
    for (const load of WARM_UP) await measure(peer, server, load)
    await settle()
    result.rate.push(await measure(peer, server, RATE))
    result.flood.push(await measure(peer, server, FLOOD))
    await server.stop()
  }
for (const peer of peers) {
  const server = await peer.start()
  results.get(peer.name)!.idleKiB = await idle(peer, server)
  await server.stop()
}
print()
await upstream.stop()
await postgres.stop()
await rm(dataDir, { recursive: true, force: true })

/** One stream of events per project, and what it takes to bring each to all of its readers. */
async function measure(
  peer: Peer,
  server: Server,
  load: { perSecond: number; events: number },
): Promise<Round> {
  const times: number[] = []
  const each = load.events / PROJECTS
  const done = Promise.withResolvers<void>()
  let waiting = PROJECTS * READERS_PER_PROJECT
  const projects = await Promise.all(Array.from({ length: PROJECTS }, () => peer.project(server)))
  const readers: RawReader[] = []
  for (const { follow } of projects)
    for (let i = 0; i < READERS_PER_PROJECT; i++)
      readers.push(
        openReader(server.url, {
          ...follow,
          count: each,
          ...(load.perSecond > 0 && {
            onMark: (sentAt: number) => times.push(performance.timeOrigin + performance.now() - sentAt),
          }),
          onSeen: seen => {
            if (seen === each && --waiting === 0) done.resolve()
          },
        }),
      )
  await Promise.all(readers.map(reader => reader.subscribed))
  await Promise.all(projects.map(({ run }) => run()))
  // What a message costs before its answer begins is no matter of the stream.
  await fetch(`${upstream.url}/__open?streams=${PROJECTS}`).then(answer => answer.text())
  const received = () => readers.reduce((sum, { socket }) => sum + socket.bytesRead, 0)
  const bytesBefore = received()
  const before = await clocks(server)
  const startedAt = performance.now()
  const how = load.perSecond > 0 ? `paces=${each}@${load.perSecond}` : `flood=${each}`
  const sent = fetch(`${upstream.url}/__go?${how}`, { method: 'POST' })
  const limit = setTimeout(
    () =>
      done.reject(
        new Error(`${peer.name}: ${readers.map(({ seen, wrong }) => `${seen}/${wrong}`).join(' ')}`),
      ),
    ROUND_LIMIT_MS,
  )
  await Promise.all([done.promise, sent.then(answer => answer.text())])
  clearTimeout(limit)
  const seconds = (performance.now() - startedAt) / 1_000
  const after = await clocks(server)
  const { peak } = await memory(server.child.pid!)
  for (const { seen, wrong } of readers)
    if (seen !== each || wrong > 0) throw new Error(`${peer.name}: ${seen} of ${each} in order, ${wrong} not`)
  const deliveries = load.events * READERS_PER_PROJECT
  const bytes = (received() - bytesBefore) / deliveries
  for (const reader of readers) reader.close()
  // As little is what it costs to end a message.
  await fetch(`${upstream.url}/__end`, { method: 'POST' }).then(answer => answer.text())
  const perMillion = (i: number) => ((after[i]! - before[i]!) / deliveries) * 1e6
  times.sort((a, b) => a - b)
  const at = (share: number) => times[Math.floor(times.length * share)] ?? 0
  return {
    perSecond: deliveries / seconds,
    p50: at(0.5),
    p99: at(0.99),
    cpu: perMillion(0),
    databaseCpu: perMillion(1),
    loadCpu: perMillion(2),
    peakMiB: peak,
    bytes,
  }
}

async function clocks({ child }: Server): Promise<number[]> {
  const { user, system } = process.cpuUsage()
  return [await cpuSeconds(child.pid!), await cpuSecondsBelow(postmaster), (user + system) / 1e6]
}

/** What a subscriber that hears nothing costs, in KiB. */
async function idle(peer: Peer, server: Server): Promise<number> {
  const { follow } = await peer.project(server)
  const open = async (count: number) => {
    const readers = Array.from({ length: count }, () => openReader(server.url, follow))
    await Promise.all(readers.map(reader => reader.subscribed))
    return readers
  }
  const first = await open(IDLE_READERS.first)
  await settle()
  const before = (await memory(server.child.pid!)).now
  const readers = [...first, ...(await open(IDLE_READERS.more))]
  await settle()
  const after = (await memory(server.child.pid!)).now
  for (const reader of readers) reader.close()
  return ((after - before) * 1024) / IDLE_READERS.more
}

async function settle() {
  await new Promise(resolve => setTimeout(resolve, 1_500))
}

function median(rounds: Round[]): Round {
  const middle = (key: keyof Round) =>
    rounds.map(round => round[key]).toSorted((a, b) => a - b)[rounds.length >> 1]!
  return Object.fromEntries(
    Object.keys(rounds[0]!).map(key => [key, middle(key as keyof Round)]),
  ) as unknown as Round
}

function print() {
  const columns = [
    'rate p50',
    'p99 ms',
    'CPU-s/M',
    'DB-s/M',
    'flood del./s',
    'CPU-s/M',
    'DB-s/M',
    'peak MiB',
    'idle KiB',
    'load-s/M',
    'bytes',
  ]
  const line = (name: string, cells: string[]) =>
    console.log(name.padEnd(27) + cells.map(cell => cell.padStart(12)).join(''))
  console.log(
    `${PROJECTS * READERS_PER_PROJECT} subscribers, ${PROJECTS} projects, 600-byte events; rate: ${RATE.perSecond} events/s, flood: ${FLOOD.events} events; medians of ${ROUNDS} rounds in turn.\nNothing was lost, doubled or out of order. CPU seconds per million deliveries.\n`,
  )
  line('', columns)
  const figures = [...results].map(([name, { rate, flood, idleKiB }]) => {
    const [r, f] = [median(rate), median(flood)]
    return {
      name,
      all: [
        r.p50,
        r.p99,
        r.cpu,
        r.databaseCpu,
        f.perSecond,
        f.cpu,
        f.databaseCpu,
        f.peakMiB,
        idleKiB,
        f.loadCpu,
        f.bytes,
      ],
    }
  })
  const digits = [2, 2, 1, 2, 0, 2, 2, 0, 1, 2, 0]
  for (const { name, all } of figures)
    line(
      name,
      all.map((value, i) => value.toFixed(digits[i]!)),
    )
  const [ours, ...others] = figures
  for (const { name, all } of others)
    line(
      `÷ ${name}`.slice(0, 26),
      all.map((value, i) => (value > 0 ? (ours!.all[i]! / value).toFixed(2) : '–')),
    )
}
