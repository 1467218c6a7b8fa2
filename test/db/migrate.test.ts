import { randomUUIDv7 } from 'node:crypto'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate as applyMigrations } from 'drizzle-orm/node-postgres/migrator'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/client.ts'
import { migrate, SchemaTooNewError } from '../../src/db/migrate.ts'
import { createEventLog } from '../../src/services/events/log.ts'
import { createRetention } from '../../src/services/events/retention.ts'
import { query } from '../helpers/cluster.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { follow, upTo, write } from '../helpers/event-log.ts'
import { temporaryFolder } from '../helpers/gateway.ts'

const MIGRATIONS = new URL('../../migrations', import.meta.url).pathname

/** A database as the first `count` migrations left it. */
async function oldDatabase(t: Test, count: number): Promise<string> {
  const url = await testDatabaseUrl(t)
  await query(url, 'drop schema public, ops cascade; create schema public')
  const folder = join(await temporaryFolder(t), 'migrations')
  await cp(MIGRATIONS, folder, { recursive: true })
  const journal = join(folder, 'meta/_journal.json')
  const { entries, ...rest } = JSON.parse(await readFile(journal, 'utf8'))
  await writeFile(journal, JSON.stringify({ ...rest, entries: entries.slice(0, count) }))
  const db = drizzle(url)
  await applyMigrations(db, {
    migrationsFolder: folder,
    migrationsSchema: 'public',
    migrationsTable: 'schema_migrations',
  })
  await db.$client.end()
  return url
}

t.test('instances that start at once migrate one after the other, and again changes nothing', async t => {
  const url = await testDatabaseUrl(t)
  await query(url, 'drop schema public, ops cascade; create schema public')
  const known = await Promise.all([migrate(url), migrate(url), migrate(url)])
  t.equal(new Set(known).size, 1)
  await migrate(url)
  await t.resolves(query(url, 'select * from renders'))
})

t.test('a program refuses a schema that needs a later one', async t => {
  const url = await testDatabaseUrl(t)
  const known = await migrate(url)
  await query(url, `update schema_compatibility set requires = ${known + 1}`)
  await t.rejects(migrate(url), SchemaTooNewError)
  await query(url, `update schema_compatibility set requires = ${known}`)
  await t.resolves(migrate(url))
})

t.test('a log from before it was divided into days goes on without a gap', async t => {
  const url = await oldDatabase(t, 2)
  const [user, id, other, run] = upTo(4).map(() => randomUUIDv7())
  // An entry every three hours, the newest of now; the other project has none but old ones.
  await query(
    url,
    `update log_epoch set epoch = 'before';
    insert into users (id, kind, language) values ('${user}', 'guest', 'en');
    insert into projects (id, user_id, name, language, last_seq)
      values ('${id}', '${user}', 'Holiday', 'en', 400), ('${other}', '${user}', 'Old', 'en', 10);
    insert into runs (id, project_id, user_id, platform, text, state, finished_at)
      values ('${run}', '${id}', '${user}', 'web', 'Hello', 'completed', now());
    insert into events (project_id, seq, run_id, at, chunk)
      select '${id}', n, case when n > 390 then '${run}'::uuid end, now() - (400 - n) * interval '3 hours',
        json_build_object('type', 'CUSTOM', 'name', 'run.progress', 'value', n) from generate_series(1, 400) n;
    insert into events (project_id, seq, at, chunk)
      select '${other}', n, now() - interval '40 days', '{"type":"CUSTOM","name":"run.progress","value":0}'
      from generate_series(1, 10) n`,
  )
  await migrate(url)

  const database = openDatabase(url, error => t.fail(String(error)))
  const log = await createEventLog({ database, url, onError: error => t.fail(String(error)), hints: false })
  t.teardown(async () => {
    await log.close()
    await database.close()
  })
  t.not(log.epoch, 'before', 'nobody knows whether it has gone backwards')
  const all = await follow(t, log, id!, log.cursor(id!, 0))
  const some = await follow(t, log, id!, log.cursor(id!, 250))
  await write(log, id!, 401, 402)
  await Promise.all([all.until(402), some.until(152)])
  t.strictSame(all.seqs, upTo(402))
  t.strictSame(all.values, upTo(402), 'each entry is what it was')
  t.strictSame(some.seqs, upTo(402).slice(250))

  await createRetention({ db: database.db, keepDays: 30 }).runOnce()
  const kept = await log.page(id!, undefined, 200)
  if (kept === 'not a cursor') return t.fail()
  const first = kept.entries[0]!
  t.ok(
    first.seq > 150 && first.at.getTime() > Date.now() - 30 * 86_400_000,
    'what is older than 30 days is gone',
  )
  t.match(await log.page(other!, undefined, 10), { entries: [] })
  t.match(await log.page(id!, log.cursor(id!, 100), 10), { recovered: false, entries: [] })
  t.match(await log.page(id!, log.cursor(id!, 400), 10), {
    recovered: true,
    entries: [{ seq: 401 }, { seq: 402 }],
  })

  await database.db.execute(sql`delete from projects where id = ${id}`)
  const { rows } = await database.db.execute(sql`select 1 from events`)
  t.strictSame(rows, [], 'a project goes with its log')
})

t.test('what was kept aside of a linked user’s guest account becomes an account of its own', async t => {
  const url = await oldDatabase(t, 12)
  const [guest, linked, shared] = upTo(3)
    .map(() => randomUUIDv7())
    .sort()
  await query(
    url,
    `insert into users (id, kind, language)
      select id, 'guest', 'en' from unnest('{${guest},${linked},${shared}}'::uuid[]) id;
    insert into upstream_accounts (user_id, kind, client_id, sealed_token, generation, state, guest_sealed_token)
      values ('${guest}', 'anonymous', gen_random_uuid(), 'k.guest', 1, 'ready', null),
        ('${linked}', 'linked', gen_random_uuid(), 'k.own', 3, 'ready', 'k.aside');
    insert into projects (id, user_id, name, language, session_id)
      select gen_random_uuid(), id, name, 'en', session from (values ('${guest}'::uuid, 'open', '1'),
        ('${guest}', 'new', null), ('${linked}', 'open', '2'), ('${shared}', 'open', '3')) p (id, name, session)`,
  )
  await migrate(url)
  const { pool, close } = openDatabase(url, error => t.fail(String(error)))
  t.teardown(close)
  const seals = await pool.query(
    'select user_id, serves, kind, sealed_token, state from upstream_accounts order by 4',
  )
  t.same(seals.rows, [
    { user_id: linked, serves: false, kind: 'anonymous', sealed_token: 'k.aside', state: 'ready' },
    { user_id: guest, serves: true, kind: 'anonymous', sealed_token: 'k.guest', state: 'ready' },
    { user_id: linked, serves: true, kind: 'linked', sealed_token: 'k.own', state: 'ready' },
  ])
  const homes = await pool.query(
    `select p.user_id, p.name, a.sealed_token from projects p left join upstream_accounts a on a.id = p.account_id
      order by p.user_id, p.name desc`,
  )
  t.same(homes.rows, [
    { user_id: guest, name: 'open', sealed_token: 'k.guest' },
    { user_id: guest, name: 'new', sealed_token: null },
    { user_id: linked, name: 'open', sealed_token: 'k.own' },
    { user_id: shared, name: 'open', sealed_token: null },
  ])
})
