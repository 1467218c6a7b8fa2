/**
 * What must be true after whatever happened, from three witnesses: the database, the backend's journal, and what
 * clients received. Also by hand, for a system that has come to rest:
 *
 *   node test/chaos/invariants.ts <database url> <journal.ndjson>
 */
import { readFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import pg from 'pg'
import type { JournalEntry } from '../../sandbox/server.ts'

/** What one client received of one project, in the order in which it came. */
export interface Transcript {
  name: string
  projectId: string
  entries: { seq: number; chunk: unknown }[]
}

export interface Evidence {
  databaseUrl: string
  journal: JournalEntry[]
  transcripts: Transcript[]
  /** Ids that clients were given with a 2xx. */
  answered: { runs: string[]; renders: string[] }
  /** Tokens handed out at most once for each client id; false where the test itself made them die. */
  tokensLived?: boolean
}

// biome-ignore lint/suspicious/noExplicitAny: rows and chunks are judged by their content
type Row = any

/** Everything that is wrong; nothing when all invariants hold. */
export async function findTrouble(evidence: Evidence): Promise<string[]> {
  const client = new pg.Client({ connectionString: evidence.databaseUrl })
  await client.connect()
  try {
    const rows = async (sql: string): Promise<Row[]> => (await client.query(sql)).rows
    const facts = {
      projects: await rows('select id, session_id, last_seq::int from projects'),
      runs: await rows('select * from runs'),
      renders: await rows("select *, next_poll_at < now() - interval '30 seconds' as forgotten from renders"),
      attempts: await rows('select * from render_attempts order by render_id, number'),
      events: await rows('select project_id, seq::int, run_id, chunk from events order by project_id, seq'),
      jobs: await rows(`select data->>'runId' as run_id, state::text from jobs.job where name = 'runs'`),
    }
    return [
      ...logTrouble(facts, evidence),
      ...journalTrouble(facts, evidence),
      ...rowTrouble(facts),
      ...endingTrouble(facts),
      ...lostAnswers(facts, evidence),
    ]
  } finally {
    await client.end()
  }
}

type Facts = Record<'projects' | 'runs' | 'renders' | 'attempts' | 'events' | 'jobs', Row[]>

/** I1: a client's transcript is a piece of the project's log, without a gap, a repetition or another word; up to its end. */
function logTrouble({ projects, events }: Facts, { transcripts }: Evidence): string[] {
  const trouble: string[] = []
  for (const { id, last_seq } of projects) {
    const seqs = events.filter(event => event.project_id === id).map(event => event.seq)
    if (seqs.length !== last_seq || seqs.some((seq, i) => seq !== i + 1))
      trouble.push(`I1 the log of ${id} has numbers ${seqs.join()} and its head is ${last_seq}`)
  }
  for (const { name, projectId, entries } of transcripts) {
    const head = projects.find(project => project.id === projectId)?.last_seq
    const gap = entries.findIndex((entry, i) => entry.seq !== entries[0]!.seq + i)
    if (gap >= 0) trouble.push(`I1 ${name} got ${entries[gap]!.seq} after ${entries[gap - 1]?.seq}`)
    if (entries.at(-1)?.seq !== head)
      trouble.push(`I1 ${name} has got as far as ${entries.at(-1)?.seq} of ${head}`)
    for (const entry of entries) {
      const kept = events.find(event => event.project_id === projectId && event.seq === entry.seq)
      if (!isDeepStrictEqual(kept?.chunk, entry.chunk)) trouble.push(`I1 ${name} got another ${entry.seq}`)
    }
  }
  const secret = /nmv_usr_|clm_/
  if (secret.test(JSON.stringify([events, transcripts]))) trouble.push('I5 a token is in the log')
  return trouble
}

/** I2: the backend took each message, each render and each request for a token once. */
function journalTrouble(
  { runs, projects, renders, attempts }: Facts,
  { journal, tokensLived = true }: Evidence,
) {
  const trouble: string[] = []
  const accepted = (endpoint: string) =>
    journal.filter(entry => entry.endpoint === endpoint && entry.accepted)
  const counts = (keys: (string | undefined)[]) => Map.groupBy(keys, key => key ?? '')

  for (const [message, times] of counts(accepted('run').map(entry => `${entry.sessionId} ${entry.text}`)))
    if (times.length > 1) trouble.push(`I2 a message was sent ${times.length} times: ${message}`)
  for (const { text } of accepted('run'))
    if (!runs.some(run => run.text === text)) trouble.push(`I2 a message that nobody sent: ${text}`)
  if (journal.some(entry => entry.overlap)) trouble.push('I2 two messages of a session were at work at once')

  for (const [id, times] of counts(accepted('render').map(entry => entry.renderId))) {
    if (times.length > 1) trouble.push(`I2 ${id} was submitted ${times.length} times`)
    const attempt = attempts.find(one => one.upstream_id === id)
    if (!attempt) trouble.push(`I3 the backend renders ${id}, which is in no row`)
    const said = journal.findLast(entry => entry.endpoint === 'render_poll' && entry.renderId === id)?.status
    const render = renders.find(one => one.id === attempt?.render_id)
    if (said === 'completed' && (attempt?.outcome !== 'completed' || render?.state !== 'completed'))
      trouble.push(
        `I3 the backend completed ${id}; here it is ${attempt?.outcome}, its render ${render?.state}`,
      )
    if (render?.state === 'completed' && attempt.outcome === 'completed' && said !== 'completed')
      trouble.push(`I3 ${id} counts as completed; the backend said ${said}`)
  }
  if (accepted('render').some(entry => !entry.draftMatches))
    trouble.push('I2 a draft was not sent as it came')
  for (const render of renders) {
    const live = attempts.filter(one => one.render_id === render.id && one.outcome !== 'failed')
    if (live.length > 1) trouble.push(`I2 render ${render.id} has ${live.length} attempts that did not fail`)
  }

  for (const [clientId, times] of counts(accepted('mint').map(entry => entry.clientId)))
    if (tokensLived && times.length > 1) trouble.push(`I2 ${times.length} tokens for ${clientId}`)
  const opened = projects.filter(project => project.session_id !== null).length
  if (tokensLived && accepted('session').length > opened)
    trouble.push(`I2 ${accepted('session').length} sessions for ${opened} projects`)
  return trouble
}

const ENDED = ['completed', 'failed', 'stopped', 'cancelled']

/** I3: whatever has not ended has a next step. */
function rowTrouble({ runs, renders, jobs }: Facts): string[] {
  const trouble: string[] = []
  for (const { id, state } of runs)
    if (
      !ENDED.includes(state) &&
      !jobs.some(job => job.run_id === id && ['created', 'retry', 'active'].includes(job.state))
    )
      trouble.push(`I3 run ${id} is ${state} and has no job`)
  for (const { id, state, next_poll_at, forgotten } of renders)
    if (!ENDED.includes(state) && (next_poll_at === null || forgotten))
      trouble.push(`I3 render ${id} is ${state} and nobody looks at it (${next_poll_at})`)
  return trouble
}

/** I4: an end is told once, in a way that a client knows; nothing that was told is taken back. */
function endingTrouble({ runs, renders, events }: Facts): string[] {
  const trouble: string[] = []
  for (const { id, state } of runs) {
    const own = events.filter(event => event.run_id === id).map(event => event.chunk.type)
    const ends = own.filter(type => type === 'RUN_FINISHED' || type === 'RUN_ERROR').length
    const told = news(events, 'run.state', id).filter(run => ENDED.includes(run.state))
    const expected = ENDED.includes(state) ? 1 : 0
    // One that was stopped in the queue has no entries of its own.
    if (ends > expected || (expected > ends && own.length > 0))
      trouble.push(`I4 run ${id} ends ${ends} times`)
    if (told.length !== expected) trouble.push(`I4 the end of run ${id} is told ${told.length} times`)
    if (own.length > 0 && own[0] !== 'RUN_STARTED') trouble.push(`I4 run ${id} begins with ${own[0]}`)
  }
  for (const { id, state } of renders) {
    const story = news(events, 'render.updated', id)
    const completions = story.filter(render => render.state === 'completed').length
    if (completions !== (state === 'completed' ? 1 : 0))
      trouble.push(`I4 render ${id} is ${state} and has ${completions} completion entries`)
    if (story.at(-1)?.state !== state)
      trouble.push(`I4 render ${id} is ${state}, told ${story.at(-1)?.state}`)
    const back = story.findIndex((render, i) => i > 0 && render.progress < story[i - 1].progress)
    if (back > 0 && story[back].attempts === story[back - 1].attempts)
      trouble.push(`I4 the progress of render ${id} went back`)
  }
  return trouble
}

const news = (events: Row[], name: string, id: string): Row[] =>
  events.filter(({ chunk }) => chunk.name === name && chunk.value.id === id).map(({ chunk }) => chunk.value)

/** I8: what a client was told exists. */
function lostAnswers({ runs, renders }: Facts, { answered }: Evidence): string[] {
  const missing = (ids: string[], rows: Row[]) => ids.filter(id => !rows.some(row => row.id === id))
  return [...missing(answered.runs, runs), ...missing(answered.renders, renders)].map(
    id => `I8 ${id} was promised and is gone`,
  )
}

if (import.meta.main) {
  const [databaseUrl = '', journalPath = ''] = process.argv.slice(2)
  const lines = (await readFile(journalPath, 'utf8')).split('\n').filter(line => line.endsWith('}'))
  const trouble = await findTrouble({
    databaseUrl,
    journal: lines.map(line => JSON.parse(line)),
    transcripts: [],
    answered: { runs: [], renders: [] },
  })
  console.log(trouble.length === 0 ? 'all invariants hold' : trouble.join('\n'))
  process.exitCode = trouble.length === 0 ? 0 : 1
}
