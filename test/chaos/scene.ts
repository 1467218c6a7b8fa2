import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import pg from 'pg'
import type { Test } from 'tap'
import type { CrashPoint } from '../../src/crash-points.ts'
import { type Json, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { type Gateway, startGateway, until } from '../helpers/gateway.ts'
import { startSandbox } from '../sandbox/helpers.ts'
import { insist, watch } from './clients.ts'
import { findTrouble } from './invariants.ts'

export interface Scene {
  point: CrashPoint
  how: 'kill' | 'stop'
  /** At which passing of the point. */
  hit: number
  /** How long a stopped process stays so. */
  frozenMs: number
}

const SPEED = { textMs: 100, editMs: 1_200, renderMs: 1_500, chunkMs: 20 }
const TEXTS = ['Add a title that says "First"', 'Trim the clip to four seconds']
const REACHED_MS = 30_000
const SETTLED_MS = 90_000
/** What the documents promise. */
const TAKEOVER_MS = 15_000

/**
 * Two instances on one database. The first dies, or freezes, at the scene's point; the second has to go on within
 * 15 s. Two messages, or two exports, of one project are on their way, and clients follow it all the time. A frozen
 * process comes back to life and must change nothing any more.
 */
export async function playScene(t: Test, { point, how, hit, frozenMs }: Scene): Promise<number> {
  const sandbox = await startSandbox(t, { speed: SPEED })
  if (point === 'run.after_reconcile_read') sandbox.faults.add({ on: 'run', answer: 'cut', frames: 1 })
  const databaseUrl = await testDatabaseUrl(t)
  const db = new pg.Pool({ connectionString: databaseUrl, max: 2 })
  // At the end the database goes before the server has seen that these connections have.
  db.on('error', () => {})
  t.teardown(() => db.end())
  const env = { DATABASE_URL: databaseUrl, NEMO_API_URL: sandbox.url }
  const [first, second] = await Promise.all([
    startGateway(t, { ...env, CRASH_AT: `${point}:${how}:${hit}` }),
    startGateway(t, env),
  ])
  const user = await signIn(first.url)
  const project = await user.projectWithClip()
  const { cursor } = await user.get(`/v1/projects/${project}`)
  const moving = watch(t, user, project, cursor, 'the client that moved')
  const watchers = [moving, watch(t, user.at(second.url), project, cursor, 'the client of the second')]
  const staying = watch(t, user, project, cursor, 'the client that stayed')
  if (how === 'stop') watchers.push(staying)

  // All work falls to the first: the second sleeps until then.
  second.kill('SIGSTOP')
  const kind = point.startsWith('run.') ? 'runs' : 'renders'
  const posted = Promise.all(TEXTS.map((text, i) => post(kind, text, i)))
  posted.catch(() => {})
  await until(() => isGone(first, how), REACHED_MS).catch(() => {
    throw new Error(`${point} was not passed ${hit} times\n${first.output()}`)
  })
  const goneAt = performance.now()
  const before = await openWork()
  second.kill('SIGCONT')
  // As if the minute had passed for which a request of a dead process keeps its key.
  await db.query('update idempotency_keys set locked_until = now() where status is null')
  moving.move(second.url)
  const takeoverMs = await until(() => isTakenOver(before), SETTLED_MS).then(() => performance.now() - goneAt)
  const answers = await posted
  await until(isSettled, SETTLED_MS)

  if (how === 'stop') await revive()
  const { rows } = await db.query('select last_seq::int from projects where id = $1', [project])
  const head = rows[0].last_seq
  const hasAll = ({ transcript }: (typeof watchers)[0]) => transcript.entries.at(-1)?.seq === head
  await until(async () => watchers.every(hasAll), SETTLED_MS).catch(() => {
    const missing = watchers.filter(watcher => !hasAll(watcher)).map(({ state }) => state())
    throw new Error(`The log ends at ${head}: ${missing.join('; ')}\n${first.output()}`)
  })

  const ids = answers.map(answer => answer.id ?? answer.run?.id)
  const trouble = await findTrouble({
    databaseUrl,
    journal: sandbox.journal(),
    transcripts: watchers.map(({ transcript }) => transcript),
    answered: { runs: kind === 'runs' ? ids : [], renders: kind === 'renders' ? ids : [] },
  })
  t.same(trouble, [], 'the invariants hold')
  t.ok(takeoverMs < TAKEOVER_MS, `the second went on after ${Math.round(takeoverMs)} ms`)
  await checkWorkWasDone()
  return takeoverMs

  async function post(kind: 'runs' | 'renders', text: string, i: number): Promise<Json> {
    const path = `/v1/projects/${project}/${kind === 'runs' ? 'messages' : 'renders'}`
    // The order of two messages is the order in which they were taken.
    if (i > 0) await until(async () => (await db.query(`select 1 from ${kind} limit 1`)).rowCount)
    return insist(user, [first.url, second.url], path, kind === 'runs' ? { text } : {}, randomUUID())
  }

  /** Who holds what has not ended. */
  async function openWork(): Promise<{ id: string; holder: string | null }[]> {
    const { rows } = await db.query(`
      select id, nullif(attempt, 0)::text as holder from runs where state in ('queued', 'running', 'reconciling')
      union all select id, lease::text from renders where next_poll_at is not null`)
    return rows
  }

  /** Everything that the first held is in other hands, or has ended; when it held nothing, something else goes on. */
  async function isTakenOver(before: { id: string; holder: string | null }[]): Promise<boolean> {
    const now = await openWork()
    const goesOn = ({ id, holder }: (typeof before)[0]) => now.find(row => row.id === id)?.holder !== holder
    const held = before.filter(row => row.holder !== null)
    return held.length > 0 ? held.every(goesOn) : before.length === 0 || before.some(goesOn)
  }

  async function isSettled(): Promise<boolean> {
    const { rows } = await db.query(`
      select (select count(*) from runs where finished_at is null or not settled)
        + (select count(*) from renders where next_poll_at is not null)
        + (select count(*) from jobs.job where name = 'runs' and state in ('created', 'retry', 'active')) as open,
      (select count(*) from ${kind}) as asked`)
    return Number(rows[0].open) === 0 && Number(rows[0].asked) === TEXTS.length
  }

  async function revive() {
    await until(async () => performance.now() - goneAt > frozenMs, frozenMs + 10_000)
    const before = await everything()
    first.kill('SIGCONT')
    // It has woken up, and done whatever it still thought was its own, once it can do something new.
    await until(async () => (await readiness(first)) === 200, 30_000).catch(() => {
      throw new Error(`The frozen instance does not serve again:\n${first.output()}`)
    })
    const { id } = await user.at(first.url).post('/v1/projects', {})
    await user.at(first.url).get(`/v1/projects/${id}/timeline`)
    await until(async () => (await workingNothing()) === 0, 30_000)
    t.same(await everything(), before, 'the frozen worker changed nothing')
  }

  async function workingNothing(): Promise<number> {
    const { rows } = await db.query(
      `select count(*)::int as n from pg_stat_activity where datname = current_database() and state like 'idle in%'`,
    )
    return rows[0].n
  }

  /** All that is kept of the project's work. */
  async function everything() {
    const { rows } = await db.query(
      `select row_to_json(r)::text as row from runs r where project_id = $1
        union all select row_to_json(r)::text from renders r where project_id = $1
        union all select row_to_json(a)::text from render_attempts a
        union all select row_to_json(e)::text from events e where project_id = $1 order by 1`,
      [project],
    )
    return rows.map(({ row }) => row)
  }

  async function checkWorkWasDone() {
    const { rows } = await db.query(`select state, problem->>'code' as code from ${kind}`)
    const done = rows.filter(row => row.state === 'completed').length
    // A message that left just before the end may never have arrived, which is said and not guessed.
    const unknown = rows.filter(row => row.code === 'outcome_unknown').length
    t.equal(done + (kind === 'runs' ? unknown : 0), TEXTS.length, JSON.stringify(rows))
    t.ok(unknown <= 1)
  }
}

async function isGone({ process }: Gateway, how: 'kill' | 'stop'): Promise<boolean> {
  if (how === 'kill') return process.exitCode !== null || process.signalCode !== null
  const stat = await readFile(`/proc/${process.pid}/stat`, 'utf8')
  return stat.split(') ')[1]![0] === 'T'
}

async function readiness({ url }: Gateway): Promise<number | null> {
  return fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2_000) }).then(
    response => response.status,
    () => null,
  )
}
