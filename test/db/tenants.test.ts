import { randomUUIDv7 } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { eq, sql } from 'drizzle-orm'
import pg from 'pg'
import t, { type Test } from 'tap'
import { type Db, openDatabase } from '../../src/db/client.ts'
import { appendEvents } from '../../src/db/events.ts'
import { claimKey } from '../../src/db/idempotency.ts'
import { migrate } from '../../src/db/migrate.ts'
import { findProjects, insertProject, listProjects } from '../../src/db/projects.ts'
import { insertRender } from '../../src/db/renders.ts'
import { insertRun, listRuns } from '../../src/db/runs.ts'
import { asNobody, asUser } from '../../src/db/tenants.ts'
import { insertUpload, listUploads } from '../../src/db/uploads.ts'
import { insertClientSession, insertUser } from '../../src/db/users.ts'
import { query } from '../helpers/cluster.ts'
import { testDatabase, testDatabaseUrl } from '../helpers/database.ts'
import { until } from '../helpers/gateway.ts'

const TENANT_TABLES = [
  'projects',
  'runs',
  'renders',
  'render_attempts',
  'uploads',
  'events',
  'idempotency_keys',
]

/** A user with one of everything. */
async function createTenant(db: Db) {
  const user = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const project = { id: randomUUIDv7(), userId: user.id, name: 'Holiday', language: 'en' }
  await insertProject(db, project)
  const of = { id: randomUUIDv7(), projectId: project.id, userId: user.id, platform: 'web' }
  await insertRun(db, { ...of, text: 'cut it', state: 'queued' })
  await insertRender(db, { ...of, format: 'mp4', quality: 'high', revision: 0 })
  await db.execute(sql`insert into render_attempts (render_id, number, upstream_id, session_id, delivery)
    values (${of.id}, 1, ${of.id}, 's', 'sent')`)
  await insertUpload(db, { ...of, state: 'ready', filename: 'a.mp4' })
  await appendEvents(db, project.id, null, ['{}'])
  await claimKey(db, { userId: user.id, route: 'r', key: 'k' }, Buffer.alloc(32))
  const expiresAt = new Date(Date.now() + 60_000)
  const tokenHash = Buffer.from(user.id)
  await insertClientSession(db, {
    id: randomUUIDv7(),
    userId: user.id,
    tokenHash,
    delivery: 'bearer',
    expiresAt,
  })
  return { userId: user.id, projectId: project.id }
}

const findProject = async (db: Db, userId: string, id: string) =>
  (await findProjects(db, [{ userId, id }]))[0]

const count = async (db: Db, table: string) =>
  Number((await db.execute(sql`select count(*) as n from ${sql.identifier(table)}`)).rows[0]!.n)

t.test('a statement that forgets whose rows it wants gets the user’s own', async t => {
  const { database } = await testDatabase(t)
  const { db, tenants } = database
  t.equal(await tenants.guarded(), true)
  const alice = await createTenant(db)
  const bob = await createTenant(db)
  for (const table of TENANT_TABLES) {
    t.equal(await count(db, table), 2, `${table}: the workers see all`)
    t.equal(await asUser(db, alice.userId, own => count(own, table)), 1, `${table}: alice sees hers`)
    t.equal(await asUser(db, randomUUIDv7(), own => count(own, table)), 0, `${table}: a stranger nothing`)
    t.equal(await asUser(db, '', own => count(own, table)), 0, `${table}: nobody nothing`)
  }
  t.match(await asUser(db, alice.userId, own => listRuns(own, bob.projectId, undefined, 9)), [])
  t.match(await asUser(db, alice.userId, own => listUploads(own, bob.projectId, undefined, 9)), [])
  t.equal(await findProject(db, alice.userId, bob.projectId), undefined)
  t.match(await findProject(db, alice.userId, alice.projectId), { id: alice.projectId })
  t.match(await listProjects(db, bob.userId, undefined, 9), [{ id: bob.projectId }])
})

t.test('what is nobody’s to read through a request stays shut', async t => {
  const { database } = await testDatabase(t)
  const { userId } = await createTenant(database.db)
  for (const table of ['users', 'client_sessions', 'tickets', 'upstream_accounts', 'schema_migrations'])
    await t.rejects(
      asUser(database.db, userId, own => count(own, table)),
      { cause: { code: '42501' } },
      table,
    )
  const { rows } = await database.pool.query(
    `select rolsuper, rolcanlogin, rolbypassrls, rolcreaterole, exists (
       select from pg_tables where tableowner = 'reelgate_app') as owns
     from pg_roles where rolname = 'reelgate_app'`,
  )
  t.match(rows, [
    { rolsuper: false, rolcanlogin: false, rolbypassrls: false, rolcreaterole: false, owns: false },
  ])
})

t.test('nobody writes into another’s rows', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const alice = await createTenant(db)
  const bob = await createTenant(db)
  const foreign = { id: randomUUIDv7(), userId: bob.userId, name: 'x', language: 'en' }
  await t.rejects(
    asUser(db, alice.userId, own => insertProject(own, foreign)),
    { cause: { code: '42501' } },
    'a project in the name of another',
  )
  await asUser(db, alice.userId, own => own.execute(sql`delete from idempotency_keys`))
  t.equal(await asUser(db, bob.userId, own => count(own, 'idempotency_keys')), 1)
  t.equal(await count(db, 'idempotency_keys'), 1)
})

t.test('a connection never begins with the user it served before', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const users = await Promise.all(Array.from({ length: 8 }, () => createTenant(db)))
  const looks = Array.from({ length: 400 }, (_, i) => users[i % users.length]!)
  const seen = await Promise.all(
    looks.map(({ userId }, i) =>
      asUser(db, userId, async own => {
        if (i % 7 === 0) await own.execute(sql`select 1 / 0`).catch(() => {})
        return (await own.execute<{ id: string }>(sql`select id from projects`)).rows
      }),
    ),
  )
  for (const [i, rows] of seen.entries()) t.strictSame(rows, [{ id: looks[i]!.projectId }])
  await t.rejects(
    asUser(db, 'no uuid', own => count(own, 'projects')),
    'and what is no user is none',
  )
  t.equal(await asUser(db, users[0]!.userId, own => count(own, 'projects')), 1)
})

t.test('one look for many users shows each of them their own', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const alice = await createTenant(db)
  const bob = await createTenant(db)
  const asked = [
    { userId: alice.userId, id: alice.projectId },
    { userId: alice.userId, id: bob.projectId },
    { userId: bob.userId, id: bob.projectId },
    { userId: bob.userId, id: alice.projectId },
    { userId: bob.userId, id: randomUUIDv7() },
    { userId: alice.userId, id: alice.projectId },
  ]
  const mine = { id: alice.projectId, userId: alice.userId, timeline: undefined }
  const theirs = { id: bob.projectId, userId: bob.userId }
  t.match(await findProjects(db, asked), [mine, undefined, theirs, undefined, undefined, mine])

  // As if its statement forgot to ask for the owner.
  const { rows } = await database.pool.query(`select pg_get_functiondef('own_projects'::regproc) as made`)
  const made: string = rows[0].made
  const forgetful = made.replace(' AND p.user_id = users[i]', '')
  t.not(forgetful, made)
  await database.pool.query(forgetful)
  const look = sql`select id from own_projects(
    ${sql.param(asked.map(({ userId }) => userId))}, ${sql.param(asked.map(({ id }) => id))})`
  t.strictSame(
    (await asNobody(db, own => own.execute<{ id: string }>(look))).rows.map(({ id }) => id),
    [alice.projectId, bob.projectId, alice.projectId],
  )
  t.equal(await asNobody(db, own => count(own, 'projects')), 0, 'and the last one’s rights are gone')
})

t.test('connections that the server ends are replaced', async t => {
  const { database } = await testDatabase(t)
  const { db, pool } = database
  const { userId, projectId } = await createTenant(db)
  await findProject(db, userId, projectId)
  await pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where application_name = 'reelgate tenants' and datname = current_database()`,
  )
  const found = await until(() => findProject(db, userId, projectId).catch(() => null))
  t.match(found, { id: projectId })
})

t.test('every table that belongs to somebody is behind a policy', async t => {
  const { database } = await testDatabase(t)
  const { rows } = await database.pool.query(
    `select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition and not c.relrowsecurity
       and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname in ('user_id', 'project_id'))`,
  )
  t.same(rows, [], 'enable row level security in the migration that makes the table')
})

/** A login that owns its database and nothing else, as managed databases give. */
async function plainOwner(t: Test, rights: string) {
  const admin = await testDatabaseUrl(t)
  const name = `owner_${randomUUIDv7().replaceAll('-', '')}`
  await query(admin, `create role ${name} login password 'plain' ${rights}`)
  await query(admin, 'drop schema public, ops cascade')
  const database = new URL(admin).pathname.slice(1)
  await query(admin, `alter database ${database} owner to ${name}`)
  t.teardown(() => query(admin, `drop owned by ${name} cascade; drop role ${name}`).catch(() => {}))
  const url = new URL(admin)
  url.username = name
  url.password = 'plain'
  await query(url.href, 'create schema public')
  return { admin, url: url.href, name }
}

t.test('an owner who may not make roles migrates all the same, and is told', async t => {
  const { admin, url, name } = await plainOwner(t, 'nocreaterole nosuperuser')
  await migrate(url)
  const { db, tenants, close } = openDatabase(url, () => {})
  t.equal(await tenants.guarded(), false, 'the role is another’s')
  const { userId, projectId } = await createTenant(db)
  t.match(await findProject(db, userId, projectId), { id: projectId }, 'and everything works')
  await close()

  await query(admin, `grant reelgate_app to ${name}`)
  const again = openDatabase(url, () => {})
  t.teardown(() => again.close())
  t.equal(await again.tenants.guarded(), true, 'once an administrator has granted it')
  t.equal(await asUser(again.db, userId, own => count(own, 'projects')), 1)
  t.equal(await asUser(again.db, randomUUIDv7(), own => count(own, 'projects')), 0)
})

t.test('notices tell an owner what is missing', async t => {
  const { url } = await plainOwner(t, 'nocreaterole nosuperuser')
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  const notices: string[] = []
  client.on('notice', notice => notices.push(notice.message ?? ''))
  await client.query('begin')
  const migrations = new URL('../../migrations/', import.meta.url)
  for (const file of (await readdir(migrations)).filter(name => name.endsWith('.sql')).sort())
    await client.query(await readFile(new URL(file, migrations), 'utf8'))
  await client.query('rollback')
  t.match(notices.join('\n'), /may not become reelgate_app; docs\/security\.md/)
})

t.test('the plan of a page stays an index scan', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const { userId } = await createTenant(db)
  const plan = await asUser(db, userId, async own => {
    await own.execute(sql`select set_config('enable_seqscan', 'off', false)`)
    return own.execute(
      sql`explain select * from projects where ${eq(sql`user_id`, userId)} order by id desc limit 9`,
    )
  })
  t.match(JSON.stringify(plan.rows), /projects_user/)
})
