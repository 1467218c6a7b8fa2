import { readFile } from 'node:fs/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { declareBudget } from '../../src/db/mints.ts'
import { databaseUrl, query } from '../helpers/cluster.ts'
import { testDatabase, testDatabaseUrl } from '../helpers/database.ts'

const VIEWS = ['accounts', 'mint_budget', 'queues', 'render_attempts', 'renders', 'runs', 'uploads']

/** A connection that may do what the role may. */
async function connect(t: Test, url: string, role?: string) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  if (role) await client.query(`set role ${role}`)
  return async (text: string, values: unknown[] = []) => (await client.query(text, values)).rows
}

t.test('every view and every column says what it is', async t => {
  const ask = await connect(t, await testDatabaseUrl(t))
  const views = await ask(
    `select table_name as name from information_schema.views where table_schema = 'ops'`,
  )
  t.same(views.map(({ name }) => name).sort(), VIEWS)
  const bare = await ask(`
    select c.relname as view, a.attname as column
    from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    where c.relnamespace = 'ops'::regnamespace
      and (obj_description(c.oid, 'pg_class') is null or col_description(c.oid, a.attnum) is null)`)
  t.same(bare, [])
})

t.test('the role of the dashboards reads the views and nothing else', async t => {
  const url = await testDatabaseUrl(t)
  const ask = await connect(t, url, 'reelgate_ops')
  for (const view of VIEWS) await t.resolves(ask(`select * from ops.${view}`), view)
  const tables = await ask(`
    select format('%I.%I', schemaname, tablename) as name from pg_tables
    where schemaname not in ('pg_catalog', 'information_schema')`)
  t.ok(tables.length > 10)
  for (const { name } of tables) await t.rejects(ask(`select * from ${name}`), { code: '42501' }, name)
  await t.rejects(ask('create table ops.notes (id integer)'), { code: '42501' })
  await t.rejects(ask('delete from ops.renders'), { code: '42501' })
  await t.rejects(ask('update ops.renders set state = state'), { code: '42501' })
})

t.test('no view shows what is secret, the backend’s, or written by a user', async t => {
  const ask = await connect(t, await testDatabaseUrl(t))
  const columns = await ask(
    `select column_name as name from information_schema.columns where table_schema = 'ops'`,
  )
  const forbidden =
    /sealed|^token$|client_id|upstream|session|task|lease|^draft$|url|text|reply|summary|filename|email|baseline/
  t.same(
    columns.map(({ name }) => name).filter(name => forbidden.test(name)),
    [],
  )
})

t.test('the budget of tokens counts a week, and a refusal costs nothing', async t => {
  const { url, database } = await testDatabase(t)
  const ask = await connect(t, url)
  await ask(`insert into mints (id, user_id, client_id, outcome, at)
    select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), outcome, now() - age::interval
    from (values ('delivered', '1 hour'), ('delivered', '6 days'), ('unknown', '2 days'), ('refused', '1 day'),
      ('delivered', '8 days')) as mint (outcome, age)`)
  const [budget] = await ask('select * from ops.mint_budget')
  t.match(budget, { budget: 10, delivered: 2, unknown: 1, refused: 1, remaining: 7 })
  t.ok(Math.abs(budget.next_freed_at.getTime() - Date.now() - 86_400_000) < 60_000)
  await ask(`insert into mints (id, user_id, client_id, outcome)
    select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'delivered' from generate_series(1, 12)`)
  t.match(await ask('select remaining from ops.mint_budget'), [{ remaining: 0 }])

  for (const perWeek of [20, 1_000]) {
    await declareBudget(database.db, perWeek)
    t.match(await ask('select budget, remaining from ops.mint_budget'), [
      { budget: perWeek, remaining: perWeek - 15 },
    ])
  }
})

t.test('where no role may be made, the migration goes on and says what to do', async t => {
  const url = await testDatabaseUrl(t)
  const name = new URL(url).pathname.slice(1)
  const owner = `owner_${name}`
  await query(url, `create role ${owner} login password 'x'; alter database ${name} owner to ${owner}`)
  t.teardown(async () => {
    const cluster = databaseUrl(url, 'postgres')
    await query(cluster, `drop database if exists ${name} with (force)`)
    await query(cluster, `drop role ${owner}`)
  })
  const ask = await connect(t, url, owner)
  const sql = await readFile(new URL('../../migrations/0006_ops.sql', import.meta.url), 'utf8')
  const making = sql.split('--> statement-breakpoint').find(statement => /CREATE ROLE/.test(statement))!
  // The role is there already, so another name stands for a cluster that has none.
  await t.resolves(ask(making.replaceAll('reelgate_ops', `${owner}_ops`)))
  t.same(await ask('select from pg_roles where rolname = $1', [`${owner}_ops`]), [])
})
