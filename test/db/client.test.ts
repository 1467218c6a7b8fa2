import { sql } from 'drizzle-orm'
import t from 'tap'
import { isDatabaseDown } from '../../src/problems.ts'
import { testDatabase } from '../helpers/database.ts'

t.test('a connection that dies inside a transaction fails the transaction and not the process', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const died = await db
    .transaction(async tx => {
      const { rows } = await tx.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`)
      await db.execute(sql`select pg_terminate_backend(${rows[0]!.pid}, 5000)`)
      // The end of the connection is heard of while no statement is under way.
      await new Promise(resolve => setTimeout(resolve, 100))
      await tx.execute(sql`select 1`)
    })
    .catch(error => error)
  t.ok(isDatabaseDown(died), String(died))
  const { rows } = await db.execute(sql`select 1 as alive`)
  t.same(rows, [{ alive: 1 }])
})
