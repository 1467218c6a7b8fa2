import type { Test } from 'tap'
import type { SandboxOptions } from '../../sandbox/server.ts'
import { createApp } from '../../src/app.ts'
import { type Env, readEnv, toConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/db/client.ts'
import { custom } from '../../src/services/events/event.ts'
import { createEventLog } from '../../src/services/events/log.ts'
import { startSandbox } from '../sandbox/helpers.ts'
import { testDatabaseUrl } from './database.ts'
import { FAST, TEST_KEYS, temporaryFolder } from './gateway.ts'

/** The whole gateway in this process, with a database and a quick sandbox of its own. Closed with the test. */
export async function testApp(
  t: Test,
  {
    env = {},
    sandbox: options = {},
    database: shared,
  }: { env?: Partial<Env>; sandbox?: SandboxOptions; database?: string } = {},
) {
  const database = shared ?? (await testDatabaseUrl(t))
  const sandbox = await startSandbox(t, options)
  const quiet = { ...FAST, DATA_DIR: await temporaryFolder(t), TOKEN_KEYS: TEST_KEYS, LOG_LEVEL: 'silent' }
  const config = toConfig({ ...readEnv({}), ...quiet, ...env } as Env)
  const app = await createApp(config, { database, upstream: sandbox.url })
  const close = app.close
  let closing: Promise<void> | undefined
  // A test may close it first, to see what that looks like from outside.
  app.close = () => {
    closing ??= close()
    return closing
  }
  t.teardown(() => {
    const closed = app.close()
    // A connection that fetch opened and never used would hold the server for a minute.
    app.http.server.closeAllConnections()
    return closed
  })
  const url = await app.http.listen({ host: '127.0.0.1', port: 0 })
  return { url, app, sandbox, database, dataDir: config.dataDir }
}

/** Writes entries, of a run if one is given, as another instance would, with texts of `bytes` letters. */
export async function logWriter(t: Test, url: string) {
  const database = openDatabase(url, () => {})
  const log = await createEventLog({ database, url, onError: () => {} })
  t.teardown(async () => {
    await log.close()
    await database.close()
  })
  return (projectId: string, count: number, bytes = 1, runId?: string) =>
    log.transaction((_, append) =>
      append(
        projectId,
        Array.from({ length: count }, (_, n) => custom('project.updated', { n, text: 'x'.repeat(bytes) })),
        runId,
      ),
    )
}
