import type { Socket } from 'node:net'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { type Db, outlive } from './client.ts'
import * as schema from './schema.ts'

/**
 * The role owns no table and is no superuser: the policies of migration 0008 decide which rows it sees. Role and user
 * are set each time: a connection that comes back from one user never begins with that user.
 */
const BECOME = {
  name: 'become_user',
  text: "select set_config('role', 'reelgate_app', false), set_config('reelgate.user_id', $1, false)",
}
const NOBODY = ''
/** What runs on them is short: single statements and pages. */
const MAX_CONNECTIONS = 10

export interface Tenants {
  pool: pg.Pool
  /** Whether the role is there and may be taken: a migration that was not allowed to make it only says so. */
  guarded(): Promise<boolean>
  close(): Promise<void>
}

type Run = <T>(userId: string, work: (own: Db) => Promise<T>) => Promise<T>
const runs = new WeakMap<Db, Run>()

/**
 * Runs `work` with the rights of one user: rows of others do not exist for it, even when a statement forgets to ask
 * for the owner. Within a transaction, or without the role, it runs with the rights that `db` has.
 */
export function asUser<T>(db: Db, userId: string, work: (own: Db) => Promise<T>): Promise<T> {
  const run = runs.get(db)
  return run ? run(userId, work) : work(db)
}

/** The same for a function of the database that takes the rights of many users itself, one after the other. */
export const asNobody = <T>(db: Db, work: (look: Db) => Promise<T>): Promise<T> => asUser(db, NOBODY, work)

/** Connections of their own, on which nothing but `asUser` and `asNobody` ever speak. */
export function openTenants(db: Db, options: pg.PoolConfig, onError: (error: Error) => void): Tenants {
  // In a pipeline, taking the rights costs no round trip of its own.
  const pool = new pg.Pool({
    ...options,
    max: MAX_CONNECTIONS,
    application_name: 'reelgate tenants',
    pipeline: true,
  })
  pool.on('error', onError)
  pool.on('connect', outlive)
  const handles = new WeakMap<pg.PoolClient, Db>()
  let probing: Promise<boolean> | undefined

  /** One for each connection, so that its prepared statements stay with it. */
  function handleOf(client: pg.PoolClient): Db {
    let handle = handles.get(client)
    if (!handle) {
      handle = drizzle(client, { schema })
      handles.set(client, handle)
    }
    return handle
  }

  async function probe(): Promise<boolean> {
    const client = await pool.connect()
    try {
      await client.query(BECOME, [NOBODY])
      const { rows } = await client.query(`select has_table_privilege('projects', 'select') as reads`)
      return rows[0].reads
    } catch (error) {
      if (MAY_NOT.has((error as pg.DatabaseError).code ?? '')) return false
      throw error
    } finally {
      client.release(true)
    }
  }

  function guarded(): Promise<boolean> {
    probing ??= probe().catch(error => {
      probing = undefined
      throw error
    })
    return probing
  }

  runs.set(db, async (userId, work) => {
    if (!(await guarded())) return work(db)
    const client = await pool.connect()
    cork(client)
    const [became, result] = await Promise.allSettled([
      client.query(BECOME, [userId]),
      // A throw before its first wait must not keep the connection.
      (async () => work(handleOf(client)))(),
    ])
    client.release(became.status === 'rejected')
    if (became.status === 'rejected') throw became.reason
    if (result.status === 'rejected') throw result.reason
    return result.value
  })

  return { pool, guarded, close: () => pool.end() }
}

/** No such role, or no membership in it. */
const MAY_NOT = new Set(['22023', '42704', '42501'])

/** Holds back what is written until the end of the tick: rights and question go out in one system call, not two. */
function cork(client: pg.PoolClient): void {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
  stream.cork()
  process.nextTick(() => stream.uncork())
}
