import { randomBytes, randomUUID, randomUUIDv7 } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import type { Test } from 'tap'
import { createSandbox, type SandboxOptions } from '../../../sandbox/server.ts'
import { insertRun } from '../../../src/db/runs.ts'
import { insertUser } from '../../../src/db/users.ts'
import { type Problem, ProblemError } from '../../../src/problems.ts'
import { createAccounts } from '../../../src/services/accounts/accounts.ts'
import { createTokenVault } from '../../../src/services/accounts/token-vault.ts'
import { createEventLog } from '../../../src/services/events/log.ts'
import { createProjects } from '../../../src/services/projects.ts'
import { createRecord } from '../../../src/services/renders/record.ts'
import type { Render } from '../../../src/services/renders/render.ts'
import { createRenders } from '../../../src/services/renders/renders.ts'
import { isTerminal } from '../../../src/services/renders/states.ts'
import { createTimelines } from '../../../src/services/timeline/timeline.ts'
import { createUpstreamClient } from '../../../src/services/upstream/client.ts'
import { testDatabase } from '../../helpers/database.ts'

export const DRAFT = '{"t":[{"tt":0,"sg":[{"d":10000,"m":{"title":"city timelapse"}}]}],"v":1.0}'
export const WITH_MUSIC =
  '{"t":[{"tt":0,"sg":[{"d":10000,"m":{"title":"city timelapse"}}]},{"tt":1,"sg":[{"d":10000}]}],"v":1.0}'
export const EMPTY = '{"t":[{"tt":0,"sg":[]}]}'

const speed = { textMs: 5, editMs: 5, generateMs: 10, renderMs: 40, chunkMs: 1, heartbeatMs: 1000 }

/** The problem that a call is refused with. */
export async function problemOf(call: Promise<unknown>): Promise<Problem> {
  const error = await call.then(
    () => new Error('it was not refused'),
    error => error,
  )
  if (error instanceof ProblemError) return error.problem
  throw error
}

/** Alice, her project with something to export, the sandbox behind it, and any number of reelgate's instances. */
export async function setStage(
  t: Test,
  options: { sandbox?: SandboxOptions; pollMs?: number; leaseMs?: number; apiUrl?: string } = {},
) {
  const { url, database } = await testDatabase(t)
  const { db } = database
  const sandbox = await createSandbox({ ...options.sandbox, speed: { ...speed, ...options.sandbox?.speed } })
  t.teardown(() => sandbox.close())
  const errors: unknown[] = []
  const onError = (error: unknown) => void errors.push(error)
  const key = { id: 'test', secret: randomBytes(32) }

  /** One process of reelgate. */
  async function createInstance(own: { leaseMs?: number; pollMs?: number } = {}) {
    const { pollMs = 10, leaseMs = 15_000 } = { ...options, ...own }
    const upstream = createUpstreamClient({
      apiUrl: options.apiUrl ?? sandbox.url,
      webUrl: 'https://nemovideo.example',
      skillSource: 'reelgate',
      skillVersion: '0.0.0',
      bodyCase: 'snake',
      streaming: true,
      limits: { runMs: 5_000, silenceMs: 5_000 },
    })
    const log = await createEventLog({ database, url, onError, hints: false })
    const accounts = createAccounts({
      db,
      vault: createTokenVault([key]),
      upstream,
      sharedToken: null,
      webUrl: 'https://nemovideo.example',
      rateLimitRetryMs: 20,
      mintsPerWeek: 1_000,
    })
    const projects = createProjects({ db, log, accounts, upstream })
    const timelines = createTimelines({ db, log, projects, upstream })
    const parts = { db, log, accounts, projects, timelines, upstream, pollMs, leaseMs }
    const renders = createRenders({ ...parts, onError })
    t.teardown(async () => {
      await renders.stop()
      await log.close()
      await upstream.close()
    })
    return { ...parts, renders, record: createRecord(parts) }
  }

  const instance = await createInstance()
  const { projects, renders, log } = instance

  async function createUser(language = 'en') {
    const user = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language })
    return { userId: user.id, platform: 'web' }
  }

  /** A project whose timeline is `draft`. */
  async function createProject(
    caller: { userId: string; platform: string },
    draft: string,
    name = 'Holiday',
  ) {
    const project = await projects.create(caller.userId, { name, language: 'en' })
    const session = await projects.call(project, caller, async (_, id) => ({ kind: 'ok', value: id }))
    if (session.kind !== 'ok') throw new Error(`no session: ${session.kind}`)
    sandbox.state.setDraft(session.value, draft)
    return { ...project, sessionId: session.value }
  }

  const alice = await createUser()
  const project = await createProject(alice, DRAFT)

  /** Has the worker pass until the render is as wished. */
  async function until(id: string, wished: (render: Render) => boolean, by = renders): Promise<Render> {
    for (const end = Date.now() + 15_000; Date.now() < end; ) {
      await by.advanceDue()
      const render = await renders.get(alice.userId, id)
      if (wished(render)) return render
      await sleep(2)
    }
    throw new Error(`the render stays ${JSON.stringify(await renders.get(alice.userId, id))}`)
  }

  return {
    ...instance,
    createInstance,
    createProject,
    createUser,
    sandbox,
    errors,
    alice,
    project,
    until,
    ended: (id: string, by = renders) => until(id, render => isTerminal(render.state), by),

    /** A message that is at work, as far as renders can see. */
    insertRun: (state: 'queued' | 'running' | 'completed') =>
      insertRun(db, {
        id: randomUUID(),
        projectId: project.id,
        userId: alice.userId,
        platform: 'web',
        text: 'Add music',
        state,
      }),

    /** What the log told of renders. */
    async told(projectId = project.id): Promise<Render[]> {
      const page = await log.page(projectId, undefined, 200)
      if (page === 'not a cursor') throw new Error(page)
      return page.entries
        .map(entry => JSON.parse(entry.chunk))
        .filter(chunk => chunk.name === 'render.updated')
        .map(chunk => chunk.value)
    },

    /** Everything the sandbox heard at an endpoint. */
    heard: (endpoint: string) => sandbox.journal().filter(entry => entry.endpoint === endpoint),

    async attempts(renderId: string) {
      const { rows } = await db.execute(
        sql`select upstream_id, delivery, outcome from render_attempts where render_id = ${renderId} order by number`,
      )
      return rows as { upstream_id: string; delivery: string; outcome: string | null }[]
    },

    /** As if the time of every claim and every pause had passed. */
    expire: () =>
      db.execute(
        sql`update renders set next_poll_at = now() - interval '1 second' where next_poll_at is not null`,
      ),

    execute: (statement: ReturnType<typeof sql>) => db.execute(statement),
  }
}
