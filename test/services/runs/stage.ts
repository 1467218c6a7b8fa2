import { randomBytes, randomUUIDv7 } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Job } from 'pg-boss'
import { applyPatch } from 'rfc6902'
import type { Test } from 'tap'
import type { Speed } from '../../../sandbox/server.ts'
import { loadProjectState } from '../../../src/db/projects.ts'
import { loadRun } from '../../../src/db/runs.ts'
import { insertUser } from '../../../src/db/users.ts'
import { createAccounts } from '../../../src/services/accounts/accounts.ts'
import { createTokenVault, type TokenVault } from '../../../src/services/accounts/token-vault.ts'
import { createEventLog, type EventLog } from '../../../src/services/events/log.ts'
import type { Jobs, RunJob } from '../../../src/services/jobs/jobs.ts'
import { createProjects } from '../../../src/services/projects.ts'
import { createRuns } from '../../../src/services/runs/runs.ts'
import { clientState } from '../../../src/services/timeline/client-state.ts'
import { createTimelines } from '../../../src/services/timeline/timeline.ts'
import { createUpstreamClient, type UpstreamClient } from '../../../src/services/upstream/client.ts'
import { aguiFaults } from '../../helpers/agui.ts'
import { testDatabase } from '../../helpers/database.ts'
import { startSandbox } from '../../sandbox/helpers.ts'

// biome-ignore lint/suspicious/noExplicitAny: the log is read as a client reads it, without types of ours
export type Json = any

export const TITLE = 'Add a title that says "Hello"'
export const QUESTION = 'What can you do?'

/**
 * Alice and her project, the sandbox behind it, and as many workers as a test wants. The test is the job queue: it
 * says which attempt is made when, and so what a worker meets that another one has left.
 */
export async function setStage(
  t: Test,
  options: {
    speed?: Partial<Speed>
    limits?: Partial<{ limitMs: number; silenceMs: number; noticeMs: number; silentEndMs: number }>
    reconcile?: Partial<{ firstMs: number; everyMs: number; reads: number }>
    rateLimitRetryMs?: number
    sharedToken?: boolean
    vault?: TokenVault
    log?(log: EventLog): EventLog
    upstream?(upstream: UpstreamClient): UpstreamClient
  } = {},
) {
  const sandbox = await startSandbox(t, { speed: { textMs: 10, editMs: 20, chunkMs: 1, ...options.speed } })
  const { url, database } = await testDatabase(t)
  database.pool.on('connect', client => client.on('error', () => {}))
  const { db } = database
  const real = createUpstreamClient({
    apiUrl: sandbox.url,
    webUrl: 'https://nemovideo.example',
    skillSource: 'reelgate',
    skillVersion: '0.0.0',
    bodyCase: 'snake',
    streaming: true,
    limits: { runMs: options.limits?.limitMs ?? 5_000, silenceMs: options.limits?.silenceMs ?? 2_000 },
  })
  const realLog = await createEventLog({ database, url, onError: () => {}, hints: false })
  const upstream = options.upstream?.(real) ?? real
  const log = options.log?.(realLog) ?? realLog
  const rateLimitRetryMs = options.rateLimitRetryMs ?? 20
  const accounts = createAccounts({
    db,
    vault: options.vault ?? createTokenVault([{ id: 'test', secret: randomBytes(32) }]),
    upstream,
    sharedToken: options.sharedToken ? sandbox.state.issueToken().token : null,
    webUrl: 'https://nemovideo.example',
    rateLimitRetryMs,
    mintsPerWeek: 1_000,
  })
  const projects = createProjects({ db, log, accounts, upstream })
  const timelines = createTimelines({ db, log, projects, upstream })
  const jobs = { enqueueRun: async () => {}, completeRun: async () => {} } as unknown as Jobs
  /** The runs of one process of reelgate. */
  const createInstance = () => {
    const runs = createRuns({
      db,
      log,
      accounts,
      projects,
      timelines,
      upstream,
      jobs,
      limits: {
        limitMs: 5_000,
        silenceMs: 2_000,
        noticeMs: 60_000,
        silentEndMs: 100,
        ...options.limits,
        reconcile: { firstMs: 20, everyMs: 20, reads: 3, ...options.reconcile },
      },
      rateLimitRetryMs,
      onQueued: () => {},
      onEnded: () => {},
    })
    t.teardown(() => runs.close())
    return runs
  }
  const runs = createInstance()
  t.teardown(async () => {
    await realLog.close()
    await real.close()
  })

  const user = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const alice = { userId: user.id, platform: 'web' }
  let { id: projectId } = await projects.create(alice.userId, { language: 'en' })

  /** Opens the project's session upstream, with a clip on its timeline. */
  async function openSession() {
    const urls = ['https://media.example/holiday.mp4']
    const uploaded = await projects.call({ id: projectId }, alice, (credential, sessionId) =>
      real.uploadUrls(credential, { sessionId, urls }),
    )
    if (uploaded.kind !== 'ok') throw new Error(`no session: ${uploaded.kind}`)
  }

  async function entries(): Promise<Json[]> {
    const page = await realLog.page(projectId, undefined, 1_000)
    if (page === 'not a cursor') throw new Error(page)
    return page.entries.map(entry => ({ ...entry, chunk: JSON.parse(entry.chunk) }))
  }

  return {
    sandbox,
    url,
    db,
    log,
    accounts,
    projects,
    timelines,
    runs,
    createInstance,
    alice,
    get projectId() {
      return projectId
    },
    /** From here on it is about another project of hers. */
    async newProject() {
      projectId = (await projects.create(alice.userId, { language: 'en' })).id
    },
    openSession,
    entries,
    row: async (id: string) => (await loadRun(db, id))!,
    say: (text: string) => runs.start(alice, projectId, { text, whenBusy: 'queue' }),
    /** One attempt of the run's job. */
    work(runId: string, attempt = 1, handOver: AbortSignal = new AbortController().signal) {
      const job = { id: runId, data: { projectId, runId }, retryCount: attempt - 1 } as Job<RunJob>
      return runs.work(job, handOver)
    },
    /** The run's chunks, which must be a legal AG-UI stream that leads to the project's timeline. */
    async story(runId: string): Promise<Json[]> {
      const chunks = (await entries()).filter(entry => entry.runId === runId).map(entry => entry.chunk)
      const state = clientState((await loadProjectState(db, projectId))!)
      const faults = [...faultsOf(chunks, state), ...(await aguiFaults(chunks))]
      for (const fault of faults) t.fail(fault, { chunks })
      return chunks
    },
    /** Resolves once the run's log holds what is wanted. */
    async until(runId: string, wanted: (chunk: Json) => boolean): Promise<Json> {
      for (const end = Date.now() + 10_000; Date.now() < end; await sleep(5)) {
        const found = (await entries()).find(entry => entry.runId === runId && wanted(entry.chunk))
        if (found) return found.chunk
      }
      throw new Error('it did not come')
    },
    /** How often the upstream took this message. */
    sent: (text: string) =>
      sandbox.journal().filter(entry => entry.endpoint === 'run' && entry.text === text && entry.accepted)
        .length,
  }
}

/** What is wrong with a run's entries, by the rules of AG-UI's verifier and ours. */
export function faultsOf(chunks: Json[], state?: Json): string[] {
  const faults: string[] = []
  const said = (fault: string) => faults.push(fault)
  let copy: Json = null
  let open: string | null = null
  const closed = new Set<string>()
  chunks.forEach((chunk, i) => {
    if ((chunk.type === 'RUN_STARTED') !== (i === 0)) said(`${chunk.type} is number ${i}`)
    const last = /^RUN_(FINISHED|ERROR)$/.test(chunk.type)
    if (last !== (i === chunks.length - 1)) said(`${chunk.type} is number ${i} of ${chunks.length}`)
    switch (chunk.type) {
      case 'TEXT_MESSAGE_START':
        if (open) said('a message begins inside another')
        if (closed.has(chunk.messageId)) said('a message begins twice')
        open = chunk.messageId
        break
      case 'TEXT_MESSAGE_CONTENT':
        if (open !== chunk.messageId || chunk.delta === '') said('content outside its message')
        break
      case 'TEXT_MESSAGE_END':
        if (open !== chunk.messageId) said('the end of a message that is not open')
        closed.add(chunk.messageId)
        open = null
        break
      case 'STATE_SNAPSHOT':
        copy = structuredClone(chunk.snapshot)
        break
      case 'STATE_DELTA':
        if (applyPatch(copy, chunk.delta).some(error => error !== null))
          said(`a patch does not apply to revision ${copy?.revision}: ${JSON.stringify(chunk.delta)}`)
        break
    }
    if (last && open) said('a message is left open')
  })
  if (copy && state && JSON.stringify(sorted(copy)) !== JSON.stringify(sorted(state)))
    said(`the copy is not the project: ${JSON.stringify(copy)} instead of ${JSON.stringify(state)}`)
  return faults
}

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map(key => [key, sorted(value[key])]),
  )
}

export const textOf = (chunks: Json[]) =>
  chunks
    .filter(chunk => chunk.type === 'TEXT_MESSAGE_CONTENT')
    .map(chunk => chunk.delta)
    .join('')
