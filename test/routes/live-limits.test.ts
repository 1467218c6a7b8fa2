import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { logWriter, testApp } from '../helpers/app.ts'
import { type Client, signIn } from '../helpers/client.ts'
import { isType, openLive } from '../helpers/frames.ts'
import { until } from '../helpers/gateway.ts'

const { url, app, database } = await testApp(t)
const write = await logWriter(t, database)
const client = await signIn(url)

async function ready(t: Test, who: Client = client) {
  const live = openLive(t, who.url, { headers: { authorization: `Bearer ${who.token}` } })
  await live.next(isType('ready'))
  return live
}

t.test('bad frames', async t => {
  const ping = Buffer.from('{"type":"ping"}')
  const bad: [frame: string | Buffer | object, code: number][] = [
    ['{"type":', 4501],
    ['', 4501],
    ['null', 4501],
    ['[]', 4501],
    [{ type: 'shout' }, 4501],
    [{ type: 'ping', extra: 1 }, 4501],
    [{ type: 'subscribe' }, 4501],
    [{ type: 'subscribe', projectId: 7 }, 4501],
    [{ type: 'subscribe', projectId: 'x'.repeat(257) }, 4501],
    ['{"type":"ping","__proto__":{}}', 4501],
    [ping, 4501],
    ['x'.repeat(64 * 1024), 4501],
    ['x'.repeat(64 * 1024 + 1), 1009],
  ]
  await Promise.all(
    bad.map(async ([frame, code]) => {
      const live = await ready(t, await signIn(url))
      await live.send(frame)
      t.equal(await live.closed, code, JSON.stringify(frame).slice(0, 60))
    }),
  )
})

t.test('more than 20 frames in a second', async t => {
  const live = await ready(t)
  await live.send(...Array.from({ length: 60 }, () => ({ type: 'ping' })))
  t.equal(await live.closed, 4013)
  t.ok(live.frames.filter(isType('pong')).length <= 20)
  const patient = await ready(t)
  for (let round = 1; round <= 2; round++) {
    await patient.send(...Array.from({ length: 10 }, () => ({ type: 'ping' })))
    await until(async () => patient.frames.filter(isType('pong')).length === 10 * round)
  }
  t.equal(patient.socket.readyState, patient.socket.OPEN, '20 are not too many')
})

t.test('50 subscriptions, not 51', async t => {
  const ids = await Promise.all(Array.from({ length: 51 }, () => client.project()))
  const lost = await client.project()
  const { cursor: after } = await client.get(`/v1/projects/${ids[0]}`)
  const live = await ready(t)
  await live.send({ type: 'subscribe', projectId: lost, after })
  t.match(await live.next(isType('subscribed', lost)), { recovered: false }, 'takes no place')
  const last = ids[50]!
  for (let i = 0; i < 51; i += 17) {
    await live.send(...ids.slice(i, i + 17).map(projectId => ({ type: 'subscribe', projectId })))
    await live.next(frame => frame.projectId === ids[i + 16])
    // 20 frames a second.
    if (i < 34) await new Promise(resolve => setTimeout(resolve, 1_010))
  }
  t.equal(live.frames.filter(isType('subscribed')).length, 1 + 50)
  t.match(await live.next(isType('error', last)), { problem: { code: 'rate_limited', status: 429 } })
  await write(last, 1)
  await write(ids[0]!, 1)
  await live.next(frame => frame.seq && frame.projectId === ids[0])
  t.equal(live.entries().length, 1, 'the others go on')
})

t.test('20 readers of one user, streams counted', async t => {
  const client = await signIn(url)
  const id = await client.project()
  const stop = new AbortController()
  const stream = (signal = stop.signal) =>
    fetch(`${url}/v1/projects/${id}/events`, {
      headers: { authorization: `Bearer ${client.token}`, accept: 'text/event-stream' },
      signal,
    })
  t.teardown(() => stop.abort())
  const first = new AbortController()
  t.equal((await stream(first.signal)).status, 200)
  for (let i = 1; i < 10; i++) t.equal((await stream()).status, 200)
  const sockets = await Promise.all(Array.from({ length: 10 }, () => ready(t, client)))

  const one = openLive(t, url, { headers: { authorization: `Bearer ${client.token}` } })
  t.equal(await one.closed, 4504)
  const refused = await stream()
  t.match(refused.headers.get('content-type'), /^application\/problem\+json/)
  t.match(refused, { status: 429 })
  t.ok(Number(refused.headers.get('retry-after')) > 0)
  t.ok(await ready(t, await signIn(url)), 'nobody else is in the way')

  sockets[0]!.socket.close()
  first.abort()
  const place = () => until(() => stream().then(({ status }) => status === 200))
  await Promise.all([place(), place()])
  t.equal((await stream()).status, 429, 'who left gave back one place each')
})

t.test('five that do not read hold up nobody, and miss nothing', async t => {
  const projectId = await client.project()
  const [quick, ...stalled] = await Promise.all(Array.from({ length: 6 }, () => ready(t)))
  for (const live of [quick!, ...stalled]) {
    await live.send({ type: 'subscribe', projectId })
    await live.next(isType('subscribed'))
  }
  for (const { socket } of stalled) socket.pause()
  for (let i = 0; i < 15; i++) await write(projectId, 20, 10_000)
  await quick!.next(entry => entry.seq === 300)
  for (const { socket, entries } of stalled) {
    t.ok(entries().length < 300, 'it has not read')
    socket.resume()
  }
  await Promise.all(stalled.map(({ next }) => next(entry => entry.seq === 300)))
  t.same(
    quick!.entries().map(({ seq }) => seq),
    Array.from({ length: 300 }, (_, i) => i + 1),
  )
  for (const { entries } of stalled) t.same(entries(), quick!.entries())
})

t.test('little is held for one that does not read, whatever it follows', async t => {
  const client = await signIn(url)
  const ids = await Promise.all(Array.from({ length: 6 }, () => client.project()))
  for (const id of ids) await write(id, 200, 8_000)
  const logs = await Promise.all(ids.map(id => client.log(id)))
  const quick = await ready(t, client)
  let held = 0
  app.http.server.once('connection', (socket: Socket) => {
    const write = socket.write as (...args: unknown[]) => boolean
    socket.write = (...args: unknown[]) => {
      const more = write.apply(socket, args)
      held = Math.max(held, socket.writableLength)
      return more
    }
  })
  const stalled = await ready(t, client)
  stalled.socket.pause()
  for (const live of [stalled, quick])
    await live.send(...logs.map(([{ id, projectId }]) => ({ type: 'subscribe', projectId, after: id })))
  const count = logs.flat().length - ids.length
  await until(async () => quick.entries().length === count)
  t.ok(held > 1_000_000 && held < 1.5 * 1024 * 1024, `${held} bytes`)
  stalled.socket.resume()
  await until(async () => stalled.entries().length === count)
  for (const { entries } of [quick, stalled])
    for (const log of logs)
      t.same(
        entries().filter(({ projectId }) => projectId === log[0].projectId),
        log.slice(1),
      )
})

t.test('closing tells everyone to come back', async t => {
  const { url, app } = await testApp(t)
  const client = await signIn(url)
  const live = await ready(t, client)
  const unknown = openLive(t, url)
  await unknown.opened
  const stuck = await ready(t, client)
  stuck.socket.pause()
  const since = Date.now()
  await app.close()
  t.ok(Date.now() - since < 5_000, 'one that does not answer is not waited for')
  t.same(await Promise.all([live.closed, unknown.closed]), [1012, 1012])
})
