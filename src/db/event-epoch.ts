import { sql } from 'drizzle-orm'
import type { Db } from './client.ts'

const NEW_EPOCH = sql`substr(md5(random()::text || clock_timestamp()::text), 1, 8)`

/** The epoch as it stands. */
export async function readEpoch(db: Db): Promise<string> {
  const { rows } = await db.execute<{ epoch: string }>(sql`select epoch from log_epoch`)
  return rows[0]!.epoch
}

/**
 * The epoch of the log, a new one if the database is not the one that it belonged to: a restored dump has other
 * object ids or another cluster; a restored base backup and a promoted standby are on another timeline. So may be
 * one that does not say yet to which it belongs: the backup of before it said so, after cursors were given away.
 */
export async function confirmEpoch(db: Db): Promise<string> {
  const identity = await readIdentity(db)
  await db.execute(sql`
    update log_epoch set identity = ${identity}, epoch = ${NEW_EPOCH}
    where identity is distinct from ${identity}`)
  return readEpoch(db)
}

/** For a log that was seen to go backwards by itself. Whoever comes second finds it renewed already. */
export async function renewEpoch(db: Db, seen: string): Promise<string> {
  await db.execute(sql`update log_epoch set epoch = ${NEW_EPOCH} where epoch = ${seen}`)
  return readEpoch(db)
}

/**
 * What changes with a restore or a failover. Some roles and some hosted databases may not ask for the cluster or the
 * timeline; what they hide counts as unchanged.
 */
async function readIdentity(db: Db): Promise<string> {
  const { rows } = await db.execute<{ objects: string }>(
    sql`select oid || '.' || 'log_epoch'::regclass::oid as objects from pg_database where datname = current_database()`,
  )
  const cluster = await tell(db, sql`select system_identifier::text as told from pg_control_system()`)
  // The first eight digits of a WAL file's name; the control file would tell only after the next checkpoint.
  const timeline = await tell(db, sql`select left(pg_walfile_name(pg_current_wal_lsn()), 8) as told`)
  return [rows[0]!.objects, cluster, timeline].join('.')
}

async function tell(db: Db, question: ReturnType<typeof sql>): Promise<string> {
  try {
    const { rows } = await db.execute<{ told: string }>(question)
    return rows[0]!.told
  } catch (error) {
    const { code } = ((error as Error).cause ?? error) as { code?: string }
    // Not allowed, not there, or not on this server.
    if (code && /^(42501|42883|0A000|55000)$/.test(code)) return '?'
    throw error
  }
}
