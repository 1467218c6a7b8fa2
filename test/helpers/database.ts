import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/client.ts'
import { databaseUrl, query, startCluster, TEMPLATE } from './cluster.ts'

let own: ReturnType<typeof startCluster> | null = null

/** A migrated database for one test, dropped when the test ends. */
export async function testDatabaseUrl(t: Test): Promise<string> {
  const shared = process.env.REELGATE_TEST_CLUSTER
  const cluster = shared ?? (await startOwn(t)).url
  const name = `test_${randomBytes(6).toString('hex')}`
  await cloneTemplate(cluster, name)
  t.teardown(() => query(cluster, `drop database if exists ${name} with (force)`))
  return databaseUrl(cluster, name)
}

export async function testDatabase(t: Test): Promise<{ url: string; database: Database }> {
  const url = await testDatabaseUrl(t)
  const database = openDatabase(url, () => {})
  t.teardown(() => database.close())
  return { url, database }
}

/**
 * One template can be copied once at a time; others wait their turn. Copying its files takes a tenth of what logging
 * each of its pages does.
 */
async function cloneTemplate(cluster: string, name: string) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await query(cluster, `create database ${name} template ${TEMPLATE} strategy file_copy`)
    } catch (error) {
      if ((error as { code?: string }).code !== '55006' || attempt === 50) throw error
      await new Promise(resolve => setTimeout(resolve, 20 * Math.random() + 10))
    }
  }
}

/** Run by hand, a test file has no cluster yet and starts one for itself. */
async function startOwn(t: Test) {
  if (!own) {
    own = startCluster()
    let root = t
    while (root.parent) root = root.parent as Test
    root.teardown(async () => (await own)?.stop())
  }
  return own
}
