/**
 * `npm run bench:renders`: one instance follows 20,000 active renders, each asked for every 30 s, in a table with a
 * million finished ones; beside it, what one would write by hand: a job of pg-boss for each poll. First, what a claim
 * costs before and after the million. Figures move from machine to machine; the ratios are what counts.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { startEmbedded } from '../src/db/embedded.ts'
import { migrate } from '../src/db/migrate.ts'
import { claimDue } from '../src/db/render-claims.ts'
import * as schema from '../src/db/schema.ts'
import { createTokenVault } from '../src/services/accounts/token-vault.ts'
import { startGateway } from './gateway.ts'
import { cpuSeconds, cpuSecondsBelow, postmasterOf, type Server, serve } from './processes.ts'

const ACTIVE = 20_000
const FINISHED = 1_000_000
const PERIOD_MS = 30_000
const WARM_UP_MS = 8_000
const MEASURED_MS = 32_000
const CLAIMS = 100
const BATCH = 50
const KEY = { id: 'bench', secret: Buffer.alloc(32, 1) }

const dataDir = await mkdtemp(join(tmpdir(), 'reelgate-bench-'))
const postgres = await startEmbedded(dataDir)
const database = await postmasterOf(dataDir)
await migrate(postgres.url)
const pool = new pg.Pool({ connectionString: postgres.url, max: 2 })
const statements: { text: string; params: unknown[] }[] = []
const logger = { logQuery: (text: string, params: unknown[]) => void statements.push({ text, params }) }
const db = drizzle(pool, { schema, logger })

try {
  console.log(`claims of ${BATCH} due renders out of ${ACTIVE.toLocaleString('en')}, median of ${CLAIMS}`)
  await seedActive()
  const before = await claimMs()
  await seedFinished()
  const after = await claimMs()
  console.log(`  no finished renders        ${before.toFixed(2)} ms`)
  console.log(`  ${FINISHED.toLocaleString('en')} finished renders ${after.toFixed(2)} ms`)
  console.log(`  ratio                      ${(after / before).toFixed(2)}`)
  console.log(await explainClaim())

  console.log(
    `\n${ACTIVE.toLocaleString('en')} active renders, every ${PERIOD_MS / 1000} s, over ${MEASURED_MS / 1000} s`,
  )
  console.log(
    '                          polls/s  late p50  late p99  late max ms  gateway  Postgres  both, % of a core',
  )
  const quiet = await measure('reelgate, nothing new', '0', startReelgate)
  await measure('reelgate, all progress', '1', startReelgate)
  const peer = await measure('pg-boss, a job a poll', '0', startPeer)
  const perPoll = (a: Figures, b: Figures) =>
    (a.gateway + a.postgres) / a.rate / ((b.gateway + b.postgres) / b.rate)
  console.log(
    `ratio to pg-boss, CPU of a poll: ${perPoll(quiet, peer).toFixed(2)}; late p99: ${(quiet.p99 / peer.p99).toFixed(2)}`,
  )
} finally {
  await pool.end()
  await postgres.stop()
  await rm(dataDir, { recursive: true, force: true })
}

interface Figures {
  rate: number
  p50: number
  p99: number
  max: number
  /** Percent of a core. */
  gateway: number
  postgres: number
}

/** Users, accounts, projects and renders, one of each, at the upstream's. */
async function seedActive() {
  const vault = createTokenVault([KEY])
  const idOf = (n: number) => `00000000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`
  const ids = Array.from({ length: ACTIVE }, (_, n) => idOf(n))
  const tokens = ids.map(id => vault.seal(`nmv_usr_${id}`, id))
  await pool.query(
    `with given as (select id, token, n from unnest($1::uuid[], $2::text[]) with ordinality g(id, token, n)),
      u as (insert into users (id, kind, language) select id, 'guest', 'en' from given),
      a as (insert into upstream_accounts (user_id, kind, client_id, sealed_token, generation, state)
        select id, 'anonymous', id, token, 1, 'ready' from given),
      p as (insert into projects (id, user_id, name, language) select id, id, 'bench', 'en' from given),
      r as (insert into renders (id, project_id, user_id, platform, state, attempts, format, quality, revision, draft,
          submitted_at, follow_until, next_poll_at)
        select id, id, id, 'web', 'rendering', 1, 'mp4', 'high', 0, '{}', now(), now() + interval '1 day', now()
        from given)
    insert into render_attempts (render_id, number, upstream_id, session_id, delivery)
      select id, 1, 'render_' || n - 1, 's', 'acknowledged' from given`,
    [ids, tokens],
  )
  await pool.query('vacuum analyze')
}

async function seedFinished() {
  await pool.query(
    `insert into renders (id, project_id, user_id, platform, state, progress, attempts, format, quality, revision,
        submitted_at, completed_at)
      select gen_random_uuid(), p.id, p.id, 'web', 'completed', 100, 1, 'mp4', 'high', 0, now(), now()
      from projects p cross join generate_series(1, $1)`,
    [FINISHED / ACTIVE],
  )
  await pool.query('vacuum analyze renders')
}

/** Everything is due; each claim is taken back. */
async function claimMs(): Promise<number> {
  const times: number[] = []
  for (let i = 0; i < CLAIMS; i++)
    await db
      .transaction(async tx => {
        const startedAt = performance.now()
        const claimed = await claimDue(tx, BATCH, 12_000)
        times.push(performance.now() - startedAt)
        if (claimed.length !== BATCH) throw new Error(`claimed ${claimed.length}`)
        tx.rollback()
      })
      .catch(error => {
        if (error.constructor.name !== 'TransactionRollbackError') throw error
      })
  return times.toSorted((a, b) => a - b)[Math.floor(CLAIMS / 2)]!
}

async function explainClaim(): Promise<string> {
  const { text, params } = statements.find(statement => statement.text.includes('skip locked'))!
  const client = await pool.connect()
  await client.query('begin')
  const { rows } = await client.query(
    `explain (analyze, buffers, costs off, timing off) ${text}`,
    params as unknown[],
  )
  await client.query('rollback')
  client.release()
  return rows.map(row => `    ${row['QUERY PLAN']}`).join('\n')
}

async function measure(
  name: string,
  news: '0' | '1',
  start: (upstream: string, startAt: number) => Promise<Server>,
): Promise<Figures> {
  const upstream = await serve('./peers/instant-upstream.ts', {
    COUNT: String(ACTIVE),
    PERIOD: String(PERIOD_MS),
    NEWS: news,
  })
  const startAt = Date.now() + 6_000
  await fetch(`${upstream.url}/begin/${startAt}`)
  const server = await start(upstream.url, startAt)
  await sleep(startAt + WARM_UP_MS - Date.now())
  await fetch(`${upstream.url}/take`)
  const [gatewayBefore, postgresBefore, startedAt] = [
    await cpuSeconds(server.child.pid!),
    await cpuSecondsBelow(database),
    Date.now(),
  ]
  await sleep(MEASURED_MS)
  const seconds = (Date.now() - startedAt) / 1_000
  const percent = (cpu: number) => (cpu / seconds) * 100
  const gateway = percent((await cpuSeconds(server.child.pid!)) - gatewayBefore)
  const postgres = percent((await cpuSecondsBelow(database)) - postgresBefore)
  const { polls, p50, p99, max } = (await (await fetch(`${upstream.url}/take`)).json()) as Figures & {
    polls: number
  }
  const figures = { rate: polls / seconds, p50, p99, max, gateway, postgres }
  const cells = [figures.rate, p50, p99, max, gateway, postgres, gateway + postgres]
  const widths = [9, 10, 10, 13, 9, 10, 18]
  console.log(name.padEnd(24) + cells.map((cell, i) => cell.toFixed(0).padStart(widths[i]!)).join(''))
  await server.stop()
  await upstream.stop()
  return figures
}

async function startReelgate(upstream: string, startAt: number): Promise<Server> {
  await pool.query(
    `update renders r set lease = null, progress = 40, polls = 0, next_poll_at =
        to_timestamp($1 / 1000.0) + (substr(a.upstream_id, 8)::int * $2::float8 / $3) * interval '1 millisecond'
      from render_attempts a where a.render_id = r.id`,
    [startAt, PERIOD_MS, ACTIVE],
  )
  return startGateway({
    DATABASE_URL: postgres.url,
    NEMO_API_URL: upstream,
    RENDER_POLL_MS: String(PERIOD_MS),
    TOKEN_KEYS: `${KEY.id}:${KEY.secret.toString('base64')}`,
    PORT: '0',
  })
}

function startPeer(upstream: string, startAt: number): Promise<Server> {
  const env = { DATABASE_URL: postgres.url, NEMO_API_URL: upstream, START: String(startAt) }
  return serve('./peers/pg-boss-polls.ts', {
    ...env,
    COUNT: String(ACTIVE),
    PERIOD: String(PERIOD_MS),
  })
}
