import t from 'tap'
import { migrate, SchemaTooNewError } from '../../src/db/migrate.ts'
import { query } from '../helpers/cluster.ts'
import { testDatabaseUrl } from '../helpers/database.ts'

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
