import { sql } from 'drizzle-orm'
import t from 'tap'
import { encodeCursor } from '../../../src/services/events/event.ts'
import { follow, note, setStage, upTo, valueIn, write } from '../../helpers/event-log.ts'

t.test('twenty writers at once: no gaps, and numbers in the order of commits', async t => {
  const { db, open, id } = await setStage(t)
  const log = await open(false)
  const { seqs, until } = await follow(t, log, id)
  // A later transaction sees every earlier one, so the count that each saw is the order of commits.
  const writers = upTo(20).map(writer =>
    log.transaction(async (tx, append) => {
      await append(id, [note(writer), note(writer)])
      const { rows } = await tx.execute<{ n: number }>(sql`select count(*)::int as n from events`)
      await append(id, [note(rows[0]!.n)])
    }),
  )
  await Promise.all(writers)
  await until(60)
  t.strictSame(seqs, upTo(60))
  const page = await log.page(id, undefined, 200)
  if (page === 'not a cursor') return t.fail()
  t.strictSame(
    page.entries.map(({ seq }) => seq),
    upTo(60),
  )
  const counts = page.entries.filter((_, i) => i % 3 === 2).map(valueIn)
  t.strictSame(
    counts,
    upTo(20).map(n => 3 * n - 1),
  )
  const { rows } = await db.execute(sql`select last_seq::int as n from projects where id = ${id}`)
  t.strictSame(rows, [{ n: 60 }])
})

t.test('a transaction that fails leaves no trace and reaches nobody', async t => {
  const { open, id } = await setStage(t)
  const log = await open(false)
  const { values, until } = await follow(t, log, id)
  const failed = log.transaction(async (_, append) => {
    await append(id, [note('never')])
    throw new Error('no')
  })
  await t.rejects(failed, { message: 'no' })
  await log.transaction((_, append) => append(id, []))
  await write(log, id, 'after')
  await until(1)
  t.match(await log.page(id, undefined, 10), { entries: [{ seq: 1 }] })
  t.strictSame(values, ['after'])
})

t.test('hostile values do not block the log', async t => {
  const { open, id } = await setStage(t)
  const log = await open(false)
  const hostile = [
    '\0',
    '\ud800',
    '\udc00x',
    { 'k\0': 1, '\ud800': 2 },
    1.7e308,
    Number.NaN,
    '"\\u0000\u2028',
    '{',
  ]
  for (const value of hostile) await t.resolves(write(log, id, value))
  const { values, until } = await follow(t, log, id, log.cursor(id, 0))
  await until(hostile.length)
  t.strictSame(values.slice(0, 3), ['', '\ufffd', '\ufffdx'])
  t.strictSame(values.slice(4), [1.7e308, null, '"\\u0000\u2028', '{'])
})

t.test('cursors and pages', async t => {
  const { open, id, other } = await setStage(t)
  const log = await open(false)
  await write(log, id, ...upTo(5))
  await write(log, other, 1)
  const tail = id.slice(-12)
  const raw = (text: string) => Buffer.from(text).toString('base64url')
  for (const text of ['', 'garbage', raw(`${log.epoch}.${tail}.-1`), encodeCursor(log.epoch, id, 2 ** 53)]) {
    t.equal(await log.page(id, text, 10), 'not a cursor')
    t.equal(await log.follow(id, text), 'not a cursor')
  }
  for (const cursor of [
    log.cursor(other, 1),
    encodeCursor('00', id, 1),
    log.cursor(id, 6),
    log.cursor(id, 1e14),
  ]) {
    const lost = { recovered: false, cursor: log.cursor(id, 5) }
    t.strictSame(await log.page(id, cursor, 10), { ...lost, entries: [], more: false })
    t.strictSame(await log.follow(id, cursor), lost)
  }

  for (const limit of [1, 2, 5, 6]) {
    const seqs: number[] = []
    let after: string | undefined
    for (let more = true; more; ) {
      const page = await log.page(id, after, limit)
      if (page === 'not a cursor') return t.fail()
      t.ok(page.recovered && page.entries.length <= limit)
      seqs.push(...page.entries.map(({ seq }) => seq))
      after = page.cursor
      more = page.more
    }
    t.strictSame([seqs, after], [upTo(5), log.cursor(id, 5)], `pages of ${limit}`)
    t.match(await log.page(id, after, limit), { recovered: true, entries: [], more: false, cursor: after })
  }
})

t.test(
  'page after page of a log that is being written: at its end too, none is lost or left out',
  async t => {
    const { open, id } = await setStage(t)
    const [here, there] = [await open(false), await open(false)]
    let over = false
    async function keepWriting() {
      while (!over) await write(there, id, 'more')
    }
    const writing = keepWriting()
    const seqs: number[] = []
    let after: string | undefined
    for (let pages = 0; pages < 100; pages++) {
      const page = await here.page(id, after, 10)
      if (page === 'not a cursor' || !page.recovered) {
        t.fail(`lost after ${seqs.length}`)
        break
      }
      seqs.push(...page.entries.map(({ seq }) => seq))
      after = page.cursor
    }
    over = true
    await writing
    t.strictSame(seqs, upTo(seqs.length))
  },
)

t.test('a reader goes on after any entry, however it goes on', async t => {
  const { open, id } = await setStage(t)
  const log = await open(false)
  await write(log, id, ...upTo(6))
  const followers = await Promise.all(upTo(7).map(k => follow(t, log, id, log.cursor(id, k - 1))))
  const fromNow = await follow(t, log, id)
  await write(log, id, 7, 8)
  t.strictSame(fromNow.seqs, [7, 8], 'at once, without a look into the log')
  for (const [k, { seqs, until }] of followers.entries()) {
    await until(8 - k)
    t.strictSame(seqs, upTo(8).slice(k))
  }
})
