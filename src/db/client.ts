import type { ExtractTablesWithRelations } from 'drizzle-orm'
import { drizzle, type NodePgDatabase, type NodePgQueryResultHKT } from 'drizzle-orm/node-postgres'
import type { PgDatabase } from 'drizzle-orm/pg-core'
import pg from 'pg'
import * as schema from './schema.ts'
import { openTenants, type Tenants } from './tenants.ts'

/** What every verb in this folder takes first: the database or a transaction in it. */
export type Db = PgDatabase<NodePgQueryResultHKT, typeof schema, ExtractTablesWithRelations<typeof schema>>

export interface Database {
  db: NodePgDatabase<typeof schema>
  pool: pg.Pool
  tenants: Tenants
  close(): Promise<void>
}

/** Opens the pool. `onError` hears of idle connections that died; queries report their own errors. */
export function openDatabase(url: string, onError: (error: Error) => void): Database {
  const options = {
    connectionString: url,
    max: 20,
    connectionTimeoutMillis: 5_000,
    statement_timeout: 15_000,
    // The server's limit cannot fire on a dead connection, so the client has one too.
    query_timeout: 20_000,
    // A process that freezes inside a transaction must not keep its rows from whoever takes over.
    idle_in_transaction_session_timeout: 10_000,
    keepAlive: true,
  }
  const pool = new pg.Pool({ ...options, application_name: 'reelgate' })
  // Without a listener, an idle connection that the server ends would end this process.
  pool.on('error', onError)
  pool.on('connect', outlive)
  const db = drizzle(pool, { schema })
  const tenants = openTenants(db, options, onError)
  const close = async () => void (await Promise.all([pool.end(), tenants.close()]))
  return { db, pool, tenants, close }
}

/** A connection that dies in use fails its statements, and would end the process if nobody listened to it as well. */
export function outlive(client: pg.PoolClient): void {
  client.on('error', () => {})
}

/**
 * A statement of a hot path, built once for each database: building it anew costs more than what it does. Not for
 * transactions, each of which would build its own.
 */
export function prepared<T>(build: (db: Db) => T): (db: Db) => T {
  const statements = new WeakMap<Db, T>()
  return db => {
    let statement = statements.get(db)
    if (!statement) {
      statement = build(db)
      statements.set(db, statement)
    }
    return statement
  }
}

/** Every id comes before it: a page that begins `after` it is the first, in the same statement as the others. */
export const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff'
