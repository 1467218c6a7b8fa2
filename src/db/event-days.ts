import { sql } from 'drizzle-orm'
import type { Db } from './client.ts'

const DAY_MS = 86_400_000
/** Long enough for readers between two statements, too short to hold up those that queue behind. */
const LOCK_TIMEOUT_MS = 200

/** Makes the partitions of the days from `now` on that are not there yet, with what has strayed into the default one. */
export async function makeDays(db: Db, now: Date, days: number): Promise<void> {
  const there = new Set((await partitions(db)).map(({ name }) => name))
  for (let n = 0; n < days; n++) {
    const day = startOfDay(now.getTime() + n * DAY_MS)
    if (!there.has(nameOf(day)) && !(await isCovered(db, day))) await makeDay(db, day)
  }
}

/** Drops the days that ended before `before`, and removes what is older from partitions that hold more than a day. */
export async function dropBefore(db: Db, before: Date): Promise<void> {
  for (const { name, end } of await partitions(db))
    if (end !== null && end <= before)
      await withShortLocks(db, tx => tx.execute(sql`drop table ${sql.identifier(name)}`))
  for (let removed = 1; removed > 0; ) {
    const { rowCount } = await db.execute(sql`
      delete from events where (tableoid, ctid) in (
        select tableoid, ctid from events where at < ${before.toISOString()} limit 5000)`)
    removed = rowCount ?? 0
  }
}

/**
 * A table is filled first and attached then: making it as a partition would lock readers out for longer. What has
 * the day already in the default partition moves along.
 */
async function makeDay(db: Db, day: Date) {
  const table = sql.identifier(nameOf(day))
  const [from, to] = [literal(day), literal(new Date(day.getTime() + DAY_MS))]
  await withShortLocks(db, async tx => {
    await tx.execute(sql`create table ${table} (like events including all)`)
    await tx.execute(sql`lock table events_default in access exclusive mode`)
    await tx.execute(sql`
      with moved as (delete from events_default where at >= ${from} and at < ${to} returning *)
      insert into ${table} select * from moved`)
    await tx.execute(sql`alter table events attach partition ${table} for values from (${from}) to (${to})`)
  })
}

/** Gives up rather than let readers queue behind it; the next sweep tries again. */
async function withShortLocks(db: Db, work: (tx: Db) => Promise<unknown>) {
  await db.transaction(async tx => {
    await tx.execute(sql`select set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true)`)
    await work(tx)
  })
}

/** The partitions with an end, which for a day is the beginning of the next one. */
async function partitions(db: Db): Promise<{ name: string; end: Date | null }[]> {
  const { rows } = await db.execute<{ name: string; end: string | null }>(sql`
    select c.relname as name,
      (substring(pg_get_expr(c.relpartbound, c.oid) from $$TO [(]'([^']+)'[)]$$)::timestamptz)::text as end
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'events'::regclass`)
  return rows.map(({ name, end }) => ({ name, end: end === null ? null : new Date(end) }))
}

/** The first partition holds all there was before the log had days. */
async function isCovered(db: Db, day: Date): Promise<boolean> {
  const first = (await partitions(db)).find(({ name }) => name === 'events_first')
  return first?.end != null && day < first.end
}

const startOfDay = (time: number) => new Date(Math.floor(time / DAY_MS) * DAY_MS)
const nameOf = (day: Date) => `events_${day.toISOString().slice(0, 10).replaceAll('-', '')}`
const literal = (time: Date) => sql.raw(`'${time.toISOString()}'`)
