import { randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t, { type Test } from 'tap'
import { readEpoch } from '../../src/db/event-epoch.ts'
import { appendEvents, readEvents, readHeads } from '../../src/db/events.ts'
import { insertProject } from '../../src/db/projects.ts'
import { insertUser } from '../../src/db/users.ts'
import { testDatabase } from '../helpers/database.ts'

async function setRows(t: Test) {
  const { db } = (await testDatabase(t)).database
  const { id: userId } = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const project = () => insertProject(db, { id: randomUUIDv7(), userId, name: 'Holiday', language: 'en' })
  return { db, id: (await project()).id, other: (await project()).id }
}

t.test('what is appended is what is read', async t => {
  const { db, id, other } = await setRows(t)
  const runId = randomUUIDv7()
  const chunks = ['{ "spaces" :  "stay", "n": 1.0e2 }', `{"text":"{\\"\\\\,'é🎬\\u2028"}`, 'null']
  const first = await appendEvents(db, id, runId, chunks)
  const second = await appendEvents(db, id, null, ['{"b":1,"a":2,"b":3}'])
  await appendEvents(db, other, null, ['{}'])
  const all = await readEvents(db, id, 0, 100)
  t.strictSame(all, [...first, ...second], 'to the letter and to the millisecond')
  t.strictSame(
    all.map(({ seq, runId }) => [seq, runId]),
    [
      [1, runId],
      [2, runId],
      [3, runId],
      [4, null],
    ],
  )
  t.strictSame(
    all.map(({ chunk }) => chunk),
    [...chunks, '{"b":1,"a":2,"b":3}'],
  )
  t.strictSame(await readEvents(db, id, 1, 2), all.slice(1, 3))
  t.strictSame(await readEvents(db, id, 999_999_999_999_999, 2), [])
  t.strictSame(
    await readHeads(db, [id, other, randomUUIDv7()]),
    new Map([
      [id, 4],
      [other, 1],
    ]),
  )
  t.strictSame(await readHeads(db, []), new Map())
})

t.test('a block of many chunks keeps its order', async t => {
  const { db, id } = await setRows(t)
  const chunks = Array.from({ length: 1_000 }, (_, i) => String(i))
  const appended = await appendEvents(db, id, null, chunks)
  t.strictSame(
    appended.map(({ chunk }) => chunk),
    chunks,
  )
  t.strictSame(await readEvents(db, id, 0, 2_000), appended)
})

t.test('a project that does not exist has no log', async t => {
  const { db } = await setRows(t)
  const nobody = randomUUIDv7()
  t.strictSame(await appendEvents(db, nobody, null, ['{}']), [])
  t.strictSame(await readEvents(db, nobody, 0, 10), [])
})

t.test('a writer waits for the one before it, and takes its numbers when that one gives up', async t => {
  const { db, id } = await setRows(t)
  let late: Promise<{ seq: number }[]> | undefined
  const early = db.transaction(async tx => {
    const [entry] = await appendEvents(tx, id, null, ['"early"'])
    t.equal(entry!.seq, 1)
    late = appendEvents(db, id, null, ['"late"'])
    for (let waiting = 0; waiting === 0; ) {
      const { rows } = await db.execute<{ n: number }>(
        sql`select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      )
      waiting = rows[0]!.n
    }
    t.strictSame(await readEvents(db, id, 0, 10), [], 'neither is seen yet')
    tx.rollback()
  })
  await t.rejects(early)
  t.match(await late, [{ seq: 1, chunk: '"late"' }])
  t.match(await readEvents(db, id, 0, 10), [{ seq: 1, chunk: '"late"' }])
})

t.test('the epoch is the database’s own and stays', async t => {
  const [one, two] = [await setRows(t), await setRows(t)]
  t.match(await readEpoch(one.db), /^[0-9a-z]{1,16}$/, 'it fits into a cursor')
  t.equal(await readEpoch(one.db), await readEpoch(one.db))
  t.equal(await readEpoch(one.db), await readEpoch(two.db), 'a copy of a database continues its cursors')
})
