import { randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { insertRun, updateRun } from '../../../src/db/runs.ts'
import type { Chunk } from '../../../src/services/events/event.ts'
import { createRetention } from '../../../src/services/events/retention.ts'
import { follow, note, setStage, upTo, write } from '../../helpers/event-log.ts'

const DAY_MS = 86_400_000
const inDays = (n: number) => new Date(Date.now() + n * DAY_MS)
const say = (delta: string, messageId = 'm1'): Chunk => ({ type: 'TEXT_MESSAGE_CONTENT', messageId, delta })

async function stage(t: Parameters<typeof setStage>[0]) {
  const scene = await setStage(t)
  const retention = createRetention({ db: scene.db, keepDays: 30 })
  const partitions = async () => {
    const { rows } = await scene.db.execute<{ name: string }>(
      sql`select inhrelid::regclass::text as name from pg_inherits where inhparent = 'events'::regclass order by 1`,
    )
    return rows.map(({ name }) => name)
  }
  return { ...scene, retention, partitions }
}

t.test('a finished run is compacted: the same text, and no cursor into a block', async t => {
  const { db, open, id, retention } = await stage(t)
  const log = await open(false)
  const { rows } = await db.execute<{ user_id: string }>(sql`select user_id from projects where id = ${id}`)
  const run = await insertRun(db, {
    id: randomUUIDv7(),
    projectId: id,
    userId: rows[0]!.user_id,
    platform: 'web',
    text: 'Hello',
    state: 'running',
  })
  const chunks: Chunk[] = [
    { type: 'TEXT_MESSAGE_START', messageId: 'm1', role: 'assistant' },
    ...['One ', 'two ', 'three '].map(text => say(text)),
    note('between'),
    ...['four ', 'five\u0007"'].map(text => say(text)),
    { type: 'TEXT_MESSAGE_END', messageId: 'm1' },
    say('another', 'm2'),
  ]
  await log.transaction((_, append) => append(id, chunks, run.id))
  await write(log, id, 'after')
  const finishedAt = new Date()
  await updateRun(db, run.id, { state: 'completed', finishedAt })
  await retention.runOnce(new Date(finishedAt.getTime() + 3_500_000))
  const page = async (seq: number) => {
    const page = await log.page(id, log.cursor(id, seq), 100)
    if (page === 'not a cursor') throw new Error(page)
    return page
  }
  t.equal((await page(0)).entries.length, 10, 'not within the hour')

  await retention.runOnce(new Date(finishedAt.getTime() + 3_700_000))
  const { entries } = await page(0)
  t.strictSame(
    entries.map(({ seq, firstSeq = seq }) => [firstSeq, seq]),
    [
      [1, 1],
      [2, 4],
      [5, 5],
      [6, 7],
      [8, 8],
      [9, 9],
      [10, 10],
    ],
  )
  const deltas = entries.map(({ chunk }) => JSON.parse(chunk).delta).filter(Boolean)
  t.strictSame(deltas, ['One two three ', 'four five\u0007"', 'another'])
  for (const seq of upTo(10)) {
    const inside = [2, 3, 6].includes(seq)
    const { recovered, entries } = await page(seq)
    t.equal(recovered, !inside, `after ${seq}`)
    t.equal(entries.length, inside ? 0 : [6, 0, 0, 5, 4, 0, 3, 2, 1, 0][seq - 1])
    t.match(await (await open(false)).follow(id, log.cursor(id, seq)), { recovered: !inside })
  }
  await retention.runOnce(new Date(finishedAt.getTime() + 3_800_000))
  t.strictSame((await page(0)).entries, entries, 'once is enough')
})

t.test('old days are dropped, and who was there has lost its place', async t => {
  const { db, open, id, other, retention, partitions } = await stage(t)
  const log = await open(false)
  await write(log, id, 1, 2, 3)
  await db.execute(sql`update events set at = at - interval '31 days' where seq < 3`)
  await write(log, other, 1)
  await retention.runOnce()
  t.match(await log.page(id, undefined, 10), { recovered: true, entries: [{ seq: 3 }] }, 'what is kept')
  t.match(await log.page(id, log.cursor(id, 1), 10), { recovered: false, entries: [] })
  t.match(await log.page(id, log.cursor(id, 2), 10), { recovered: true, entries: [{ seq: 3 }] })
  const before = await partitions()

  await retention.runOnce(inDays(33))
  const after = await partitions()
  t.notOk(after.includes('events_first'), 'the whole table of the first days went')
  t.ok(after.some(name => !before.includes(name)) && after.includes('events_default'))
  for (const seq of [0, 1, 2]) t.match(await log.page(id, log.cursor(id, seq), 10), { recovered: false })
  t.match(await log.page(id, log.cursor(id, 3), 10), { recovered: true, entries: [] }, 'the end is no loss')
  t.match(await log.page(id, undefined, 10), { recovered: true, entries: [], cursor: log.cursor(id, 3) })
  t.match(await log.follow(id, log.cursor(id, 2)), { recovered: false })
  const reader = await follow(t, log, id, log.cursor(id, 3))
  await write(log, id, 4)
  await reader.until(1)
  t.strictSame(reader.seqs, [4])
})

t.test('what falls into the default partition moves to its day', async t => {
  const { db, open, id, retention } = await stage(t)
  const log = await open(false)
  await write(log, id, 1, 2)
  await db.execute(sql`update events set at = at + interval '40 days' where seq = 2`)
  const where = async () => {
    const { rows } = await db.execute<{ name: string }>(
      sql`select tableoid::regclass::text as name from events where seq = 2`,
    )
    return rows[0]!.name
  }
  t.equal(await where(), 'events_default')
  await retention.runOnce(inDays(20))
  await retention.runOnce(inDays(39))
  t.match(await where(), /^events_\d{8}$/)
  t.match(await log.page(id, log.cursor(id, 1), 10), { recovered: true, entries: [{ seq: 2 }] })
})

t.test('a reader in the middle of a transaction holds it up, and is not locked out', async t => {
  const { db, open, id, retention, partitions } = await stage(t)
  const log = await open(false)
  await write(log, id, 1)
  await db.transaction(async tx => {
    await tx.execute(sql`select * from events`)
    await t.rejects(retention.runOnce(inDays(33)), 'it gives up')
    t.match(await log.page(id, undefined, 10), { entries: [{ seq: 1 }] }, 'others read on')
  })
  await retention.runOnce(inDays(33))
  t.notOk((await partitions()).includes('events_first'))
})

t.test('a project that is deleted takes its log along', async t => {
  const { db, open, id, other } = await stage(t)
  const log = await open(false)
  await write(log, id, 1, 2)
  await write(log, other, 1)
  await db.execute(sql`delete from projects where id = ${id}`)
  const { rows } = await db.execute(sql`select project_id from events`)
  t.strictSame(rows, [{ project_id: other }])
})
