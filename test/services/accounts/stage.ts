import { randomUUIDv7 } from 'node:crypto'
import { eq, sql } from 'drizzle-orm'
import type { Test } from 'tap'
import { createSandbox, type SandboxOptions } from '../../../sandbox/server.ts'
import { type AccountRow, findAccount } from '../../../src/db/accounts.ts'
import { openDatabase } from '../../../src/db/client.ts'
import { mints } from '../../../src/db/schema.ts'
import { insertUser } from '../../../src/db/users.ts'
import { type Problem, ProblemError } from '../../../src/problems.ts'
import { createAccounts } from '../../../src/services/accounts/accounts.ts'
import { createTokenVault } from '../../../src/services/accounts/token-vault.ts'
import { createEventLog } from '../../../src/services/events/log.ts'
import { createProjects } from '../../../src/services/projects.ts'
import { createTimelines } from '../../../src/services/timeline/timeline.ts'
import { createUpstreamClient } from '../../../src/services/upstream/client.ts'
import { testDatabase } from '../../helpers/database.ts'

const speed = { textMs: 5, editMs: 5, generateMs: 10, renderMs: 20, chunkMs: 0, heartbeatMs: 1000 }

export const KEY = { id: 'test', secret: Buffer.alloc(32, 7) }

/** The problem that a call is refused with. */
export async function problemOf(call: Promise<unknown>): Promise<Problem> {
  const error = await call.then(
    () => new Error('it was not refused'),
    error => error,
  )
  if (error instanceof ProblemError) return error.problem
  throw error
}

let shared: ReturnType<typeof testDatabase> | null = null

/** One database for all tests of a file: their users differ, and a database takes longer than most tests. */
export function fileDatabase(t: Test) {
  let root = t
  while (root.parent) root = root.parent as Test
  shared ??= testDatabase(root)
  return shared
}

/** A sandbox that mints as rarely as the real backend, a database, and any number of reelgate's instances on them. */
export async function setStage(
  t: Test,
  options: {
    sandbox?: SandboxOptions
    sharedToken?: string
    rateLimitRetryMs?: number
    mintsPerWeek?: number
  } = {},
) {
  const { url, database } = await fileDatabase(t)
  const { db } = database
  const sandbox = await createSandbox({ mintsPerIp: 10, ...options.sandbox, speed })
  t.teardown(() => sandbox.close())

  /** One process of reelgate, with a pool of its own. */
  async function createInstance(own: { onSharedRefused?(): void } = {}) {
    const database = openDatabase(url, () => {})
    const upstream = createUpstreamClient({
      apiUrl: sandbox.url,
      webUrl: 'https://nemovideo.example',
      skillSource: 'reelgate',
      skillVersion: '0.0.0',
      bodyCase: 'snake',
      streaming: true,
      limits: { runMs: 5_000, silenceMs: 5_000 },
    })
    const accounts = createAccounts({
      db: database.db,
      vault: createTokenVault([KEY]),
      upstream,
      sharedToken: options.sharedToken ?? null,
      webUrl: 'https://nemovideo.example',
      rateLimitRetryMs: options.rateLimitRetryMs ?? 20,
      mintsPerWeek: options.mintsPerWeek ?? 1_000,
      ...own,
    })
    const log = await createEventLog({ database, url, onError: () => {}, hints: false })
    const projects = createProjects({ db: database.db, log, accounts, upstream })
    const timelines = createTimelines({ db: database.db, log, projects, upstream })
    t.teardown(async () => {
      await log.close()
      await upstream.close()
      await database.close()
    })
    return { upstream, accounts, log, projects, timelines }
  }

  async function createCaller(language = 'en', platform = 'web') {
    const user = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language })
    return { userId: user.id, platform }
  }

  const instance = await createInstance()
  return {
    ...instance,
    createInstance,
    createCaller,
    alice: await createCaller(),
    sandbox,
    url,
    db,

    /** What the sandbox heard at an endpoint. */
    heard: (endpoint: string) => sandbox.journal().filter(entry => entry.endpoint === endpoint),

    accountOf: async (userId: string): Promise<AccountRow> => (await findAccount(db, userId))!,

    /** What was asked for on behalf of a user, in order. */
    mintsOf: (userId: string) => db.select().from(mints).where(eq(mints.userId, userId)).orderBy(mints.at),

    /** Every row of every table, as a dump would show it. */
    async dump(): Promise<string> {
      const tables = await db.execute<{ name: string }>(
        sql`select format('%I.%I', schemaname, tablename) as name from pg_tables
          where schemaname not in ('pg_catalog', 'information_schema')`,
      )
      const rows = []
      for (const { name } of tables.rows)
        rows.push(...(await db.execute(sql`select t::text as row from ${sql.raw(name)} t`)).rows)
      return rows.map(({ row }) => row).join('\n')
    },
  }
}
