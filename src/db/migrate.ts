import { readMigrationFiles } from 'drizzle-orm/migrator'
import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate as applyMigrations } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'

const MIGRATIONS = new URL('../../migrations', import.meta.url).pathname
const ADVISORY_LOCK = 7_233_531_104_982_001n

export class SchemaTooNewError extends Error {
  override readonly name = 'SchemaTooNewError'
}

/**
 * Brings the schema up to date, one instance at a time. Safe to call from every instance at every start.
 * Throws SchemaTooNewError when a later version has made a change that this program cannot work with.
 * @returns how many migrations this program knows
 */
export async function migrate(url: string): Promise<number> {
  const known = readMigrationFiles({ migrationsFolder: MIGRATIONS }).length
  const client = new pg.Client({
    connectionString: url,
    application_name: 'reelgate migrate',
    connectionTimeoutMillis: 5_000,
  })
  // A migration warns of what it may not do itself and an administrator should.
  client.on('notice', ({ severity, message }) => {
    if (severity === 'WARNING') console.warn(message)
  })
  await client.connect()
  try {
    await client.query('select pg_advisory_lock($1)', [ADVISORY_LOCK])
    await refuseNewerSchema(client, known)
    await applyMigrations(drizzle(client), {
      migrationsFolder: MIGRATIONS,
      migrationsSchema: 'public',
      migrationsTable: 'schema_migrations',
    })
    return known
  } finally {
    await client.end()
  }
}

async function refuseNewerSchema(client: pg.Client, known: number) {
  const { rows } = await client.query<{ exists: boolean }>(
    `select to_regclass('public.schema_compatibility') is not null as exists`,
  )
  if (!rows[0]?.exists) return
  const compatibility = await client.query<{ requires: number }>('select requires from schema_compatibility')
  const requires = compatibility.rows[0]?.requires ?? 0
  if (requires > known)
    throw new SchemaTooNewError(
      `The database needs a program that knows ${requires} migrations; this one knows ${known}. Start the newer version again, or restore a backup from before it.`,
    )
}
