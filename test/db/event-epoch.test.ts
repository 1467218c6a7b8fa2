import { sql } from 'drizzle-orm'
import t from 'tap'
import { openDatabase } from '../../src/db/client.ts'
import { confirmEpoch, readEpoch, renewEpoch } from '../../src/db/event-epoch.ts'
import { query } from '../helpers/cluster.ts'
import { testDatabase, testDatabaseUrl } from '../helpers/database.ts'

t.test('the epoch stays while the database is the same', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const epoch = await confirmEpoch(db)
  t.match(epoch, /^[0-9a-z]{1,16}$/, 'it fits into a cursor')
  t.equal(await confirmEpoch(db), epoch)
  t.strictSame(await Promise.all([1, 2, 3].map(() => confirmEpoch(db))), [epoch, epoch, epoch])
})

t.test('a database that was restored elsewhere, or went to another timeline, has another epoch', async t => {
  const url = await testDatabaseUrl(t)
  const database = openDatabase(url, () => {})
  const epoch = await confirmEpoch(database.db)
  const name = new URL(url).pathname.slice(1)
  const copyUrl = Object.assign(new URL(url), { pathname: `/${name}_copy` }).href
  const admin = Object.assign(new URL(url), { pathname: '/postgres' }).href
  await database.close()
  await query(admin, `create database ${name}_copy template ${name}`)
  t.teardown(() => query(admin, `drop database ${name}_copy with (force)`))
  const copy = openDatabase(copyUrl, () => {})
  const original = openDatabase(url, () => {})
  t.teardown(() => Promise.all([copy.close(), original.close()]))
  t.not(await confirmEpoch(copy.db), epoch)
  t.equal(await confirmEpoch(original.db), epoch)

  await original.db.execute(sql`update log_epoch set identity = regexp_replace(identity, '.$', 'F')`)
  const found = await Promise.all([confirmEpoch(original.db), confirmEpoch(original.db)])
  t.not(found[0], epoch)
  t.equal(found[0], found[1], 'two instances that notice at once agree')
})

t.test('a backup from before the epoch was known to belong here has another one too', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const backup = await readEpoch(db)
  const epoch = await confirmEpoch(db)
  t.equal(await confirmEpoch(db), epoch)
  await db.execute(sql`update log_epoch set epoch = ${backup}, identity = null`)
  const restored = await confirmEpoch(db)
  t.notOk([backup, epoch].includes(restored), 'cursors of neither are continued')
  t.equal(await confirmEpoch(db), restored)
})

t.test('a role that may ask nothing of the cluster', async t => {
  const { url, database } = await testDatabase(t)
  const role = `nosy_${Math.random().toString(36).slice(2, 10)}`
  await database.db.execute(sql.raw(`create role ${role} login password 'x'`))
  await database.db.execute(sql.raw(`grant select, update on log_epoch to ${role}`))
  await database.db.execute(sql`revoke execute on function pg_control_system() from public`)
  const other = openDatabase(Object.assign(new URL(url), { username: role, password: 'x' }).href, () => {})
  t.teardown(async () => {
    await other.close()
    await database.db.execute(sql.raw(`drop owned by ${role}`))
    await database.db.execute(sql.raw(`drop role ${role}`))
  })
  const epoch = await confirmEpoch(other.db)
  t.equal(await confirmEpoch(other.db), epoch)
})

t.test('renewed once, by whoever comes first', async t => {
  const { database } = await testDatabase(t)
  const seen = await readEpoch(database.db)
  const [one, two] = await Promise.all([renewEpoch(database.db, seen), renewEpoch(database.db, seen)])
  t.not(one, seen)
  t.equal(await renewEpoch(database.db, seen), two)
})
