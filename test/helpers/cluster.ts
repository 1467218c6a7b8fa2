import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startEmbedded } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { createJobs } from '../../src/services/jobs/jobs.ts'

export const TEMPLATE = 'reelgate_template'

// A test's database is thrown away, so nothing has to survive a power cut.
const FLAGS = [
  '-c',
  'fsync=off',
  '-c',
  'full_page_writes=off',
  '-c',
  'max_connections=300',
  '-c',
  'shared_buffers=64MB',
]

/** A Postgres of its own, or the one that `TEST_POSTGRES_URL` names, with a migrated database to clone from. */
export async function startCluster(): Promise<{ url: string; stop(): Promise<void> }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'reelgate-test-'))
  const given = process.env.TEST_POSTGRES_URL
  const postgres = given ? { url: given, stop: async () => {} } : await startEmbedded(dataDir, FLAGS)
  await query(postgres.url, `drop database if exists ${TEMPLATE}`)
  await query(postgres.url, `create database ${TEMPLATE}`)
  const template = databaseUrl(postgres.url, TEMPLATE)
  await migrate(template)
  // The tables of the jobs too: making them anew in each copy would take most of its time.
  const jobs = await createJobs({ url: template, onError: () => {} })
  await jobs.stop()
  return {
    url: postgres.url,
    stop: async () => {
      await postgres.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

export function databaseUrl(clusterUrl: string, name: string): string {
  const url = new URL(clusterUrl)
  url.pathname = `/${name}`
  return url.href
}

export async function query(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(sql).finally(() => client.end())
}
