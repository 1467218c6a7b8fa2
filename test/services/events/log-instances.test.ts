import { sql } from 'drizzle-orm'
import t from 'tap'
import type { Db } from '../../../src/db/client.ts'
import { follow, setStage, upTo, write } from '../../helpers/event-log.ts'

const LISTENING = sql`from pg_stat_activity where application_name = 'reelgate listen'
  and datname = current_database() and query ~ '^(listen|select pg_notify)' and state = 'idle'`

/** Resolves when `count` connections listen that are none of `before`. */
async function listeners(db: Db, count: number, before: number[] = []): Promise<number[]> {
  for (;;) {
    const { rows } = await db.execute<{ pid: number }>(sql`select pid ${LISTENING}`)
    const pids = rows.map(({ pid }) => pid).filter(pid => !before.includes(pid))
    if (pids.length === count) return pids
  }
}

t.test('entries of one instance reach readers at another', async t => {
  const { db, open, id } = await setStage(t)
  const [a, b] = [await open(true), await open(true)]
  const pids = await listeners(db, 2)
  const [atA, atB] = [await follow(t, a, id), await follow(t, b, id)]

  /** One after another: the poll alone would take a second for each. */
  async function writeInTurn(from: number) {
    const start = performance.now()
    for (let n = from; n < from + 5; n++) {
      await write(n % 2 ? a : b, id, n)
      await Promise.all([atA.until(n), atB.until(n)])
    }
    t.ok(performance.now() - start < 2_500, 'without waiting for the poll')
  }
  await writeInTurn(1)

  await db.execute(sql`select pg_terminate_backend(pid) ${LISTENING}`)
  await write(a, id, 6)
  await write(b, id, 7)
  await Promise.all([atA.until(7), atB.until(7)])
  await listeners(db, 2, pids)
  await writeInTurn(8)
  t.strictSame([atA.seqs, atB.seqs], [upTo(12), upTo(12)])
  t.strictSame([atA.values, atB.values], [upTo(12), upTo(12)])
})

t.test('without hints the poll brings them', async t => {
  const { db, open, id } = await setStage(t)
  const [a, b] = [await open(false), await open(false)]
  const { seqs, until } = await follow(t, b, id)
  const start = performance.now()
  await write(a, id, 1, 2)
  await until(2)
  t.ok(performance.now() - start < 2_000)
  t.strictSame(seqs, [1, 2])
  await listeners(db, 0)
})

for (const hints of [true, false])
  t.test(`both instances write the same project at once, hints ${hints}`, async t => {
    const { open, id } = await setStage(t)
    const [a, b] = [await open(hints), await open(hints)]
    const readers = [await follow(t, a, id), await follow(t, b, id), await follow(t, b, id, b.cursor(id, 0))]
    await Promise.all(upTo(40).map(n => write(n % 2 ? a : b, id, n, n)))
    for (const { seqs, until } of readers) {
      await until(80)
      t.strictSame(seqs, upTo(80))
    }
  })

t.test('a reader that closes in the middle of a long log gets no more of it', async t => {
  const { open, id } = await setStage(t)
  const log = await open(false)
  await write(log, id, ...upTo(1_000))
  const start = log.cursor(id, 0)
  const two = await follow(t, log, id, start)
  const one = await follow(t, log, id, start)
  await one.until(1)
  one.close()
  const taken = one.seqs.length
  await two.until(1_000)
  await write(log, id, 'late')
  await two.until(1_001)
  t.ok(taken < 1_000)
  t.strictSame(one.seqs, upTo(taken))
})
