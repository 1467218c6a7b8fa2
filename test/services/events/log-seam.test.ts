import { mock } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { follow, setStage, upTo, write } from '../../helpers/event-log.ts'
import { until } from '../../helpers/gateway.ts'
import { tcpProxy } from '../../helpers/tcp-proxy.ts'

for (const hints of [true, false])
  t.test(`published at full speed while 200 subscribe, hints ${hints}: no gap and no double`, async t => {
    const { open, id } = await setStage(t)
    const [here, there] = [await open(hints), await open(hints)]
    // More than is kept in memory: many have to read the log to get to where it is being written.
    await write(here, id, ...upTo(400))
    let written = 400
    let over = false
    async function publish() {
      while (!over) {
        const count = 1 + (written % 3)
        await write(written % 2 ? here : there, id, ...upTo(count))
        written += count
      }
    }
    const publishing = [publish(), publish()]
    const readers: (Awaited<ReturnType<typeof follow>> & { from?: number | undefined })[] = []
    for (let i = 0; i < 100; i++) {
      for (const log of [here, there]) {
        // Now and then what only the other instance knows as yet.
        const from = [undefined, written, ...upTo(2).map(() => Math.floor(Math.random() * written))][i % 4]
        const after = from === undefined ? undefined : log.cursor(id, from)
        readers.push({ ...(await follow(t, log, id, after)), from })
      }
      for (const before = written; written === before; ) await turn()
    }
    over = true
    await Promise.all(publishing)
    const head = await until(async () => {
      const page = await here.page(id, here.cursor(id, written - 1), 10)
      return page !== 'not a cursor' && page.entries.at(-1)?.seq
    })
    await until(async () => readers.every(({ seqs }) => seqs.length === 0 || seqs.at(-1) === head))
    for (const { seqs, from } of readers) {
      const first = from === undefined ? (seqs[0] ?? head + 1) : from + 1
      if (seqs.some((seq, i) => seq !== first + i)) t.fail(`a gap or a double in ${seqs}`)
    }
    const whole = await follow(t, there, id, there.cursor(id, 0))
    await whole.until(head)
    t.strictSame(whole.seqs, upTo(head))
    t.ok(head > 500, `${head - 400} entries meanwhile`)
  })

t.test('an instance whose network was cut catches up when it listens again, without the poll', async t => {
  const { url, open, id } = await setStage(t)
  const proxy = await tcpProxy(t, url)
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const [here, there] = [await open(true), await open(true, proxy.url)]
  const reader = await follow(t, there, id)
  await write(here, id, 1)
  await reader.until(1)
  proxy.cut()
  // Announced while nobody listens over there.
  await write(here, id, 2, 3)
  await reader.until(3)
  t.strictSame(reader.seqs, [1, 2, 3])
})

t.test('the log went back in time: nobody continues what never was', async t => {
  const { db, open, id } = await setStage(t)
  const [here, there] = [await open(false), await open(false)]
  await write(here, id, ...upTo(5))
  const old = here.cursor(id, 5)
  const lost: unknown[] = []
  for (const log of [here, there]) {
    const following = await log.follow(id, old)
    if (following === 'not a cursor' || !following.recovered) throw new Error('Cannot follow')
    const sink = { isFull: () => false, write: () => true, drained: () => Promise.resolve() }
    following.subscription.start(sink, error => lost.push(error))
  }
  // A dump of some minutes ago is put over the data, rows and numbers alike.
  await db.transaction(async tx => {
    await tx.execute(sql`delete from events where seq > 3`)
    await tx.execute(sql`update projects set last_seq = 3 where id = ${id}`)
  })
  const before = here.epoch
  await until(async () => lost.length === 2)
  t.match(lost, [{ name: 'LostPositionError' }, { name: 'LostPositionError' }])
  t.not(here.epoch, before)
  await write(there, id, 'another 4', 'another 5')
  for (const log of [here, there]) {
    t.match(await log.follow(id, old), { recovered: false, cursor: here.cursor(id, 5) })
    t.match(await log.page(id, old, 10), { recovered: false, entries: [] })
  }
  t.equal(here.epoch, there.epoch, 'all instances come to the same epoch')
  const { values, until: reach } = await follow(t, there, id, here.cursor(id, 3))
  await reach(2)
  t.strictSame(values, ['another 4', 'another 5'])
})

t.test('without a listening connection, a failover is noticed all the same', async t => {
  const { db, open, id } = await setStage(t)
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const log = await open(false)
  await write(log, id, 1, 2, 3)
  const before = log.epoch
  const old = log.cursor(id, 1)
  await db.execute(sql`update log_epoch set identity = 'before it'`)
  mock.timers.tick(10_000)
  await until(async () => log.epoch !== before)
  t.match(await log.page(id, old, 10), { recovered: false, entries: [] })
})

t.test('after a restart the epoch is the same; in a restored database it is not', async t => {
  const { db, open, id } = await setStage(t)
  const one = await open(false)
  await write(one, id, 1, 2)
  const cursor = one.cursor(id, 1)
  t.match(await (await open(false)).page(id, cursor, 10), { recovered: true, entries: [{ seq: 2 }] })
  await db.execute(sql`update log_epoch set identity = 'of another cluster'`)
  const restored = await open(false)
  t.match(await restored.page(id, cursor, 10), { recovered: false, entries: [] })
  t.match(
    await one.page(id, restored.cursor(id, 1), 10),
    { recovered: true },
    'one that runs on learns of it',
  )
})
