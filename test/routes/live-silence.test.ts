import type { Socket } from 'node:net'
import { mock } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { logWriter, testApp } from '../helpers/app.ts'
import { type Json, signIn } from '../helpers/client.ts'
import { query } from '../helpers/cluster.ts'
import { openLive } from '../helpers/frames.ts'

const { url, app, database } = await testApp(t)
const write = await logWriter(t, database)
const client = await signIn(url)
const authorization = `Bearer ${client.token}`

/** What the gateway waits for from here on comes when the test says so. */
function stopClock(t: Test) {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.teardown(() => mock.timers.reset())
}

t.test('no credential within ten seconds', async t => {
  stopClock(t)
  const live = openLive(t, url)
  await live.opened
  mock.timers.tick(9_999)
  await live.send({ type: 'ping' })
  await new Promise<void>(resolve => live.socket.once('message', () => resolve()))
  mock.timers.tick(1)
  t.equal(await live.closed, 4502)
  t.strictSame(live.frames, [{ type: 'pong' }])
})

t.test('a credential that came in time counts, however long it takes to look at', async t => {
  const holder = new pg.Client({ connectionString: database })
  await holder.connect()
  t.teardown(() => holder.end())
  await holder.query('begin; lock table client_sessions in access exclusive mode')
  stopClock(t)
  const live = openLive(t, url, { headers: { authorization } })
  await live.opened
  mock.timers.tick(10_000)
  await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
  const answered = new Promise<void>(resolve => live.socket.once('message', () => resolve()))
  await holder.query('rollback')
  await Promise.race([answered, live.closed])
  t.match(live.frames, [{ type: 'ready' }])
})

/** A socket whose time stands still. By ticket, because those who bring a token may be made to wait for each other. */
async function signedIn(t: Test, options: { autoPong?: boolean } = {}) {
  const { ticket } = await client.post('/v1/auth/tickets')
  stopClock(t)
  const connected = new Promise<Socket>(resolve => app.http.server.once('connection', resolve))
  const live = openLive(t, url, { query: `?ticket=${ticket}`, ...options })
  while (live.frames.length === 0) await turn()
  return { live, socket: await connected }
}

/** A signed-in socket that has a long log before it and reads nothing: its place at the server is full. */
async function stalled(t: Test, waitedMs: number) {
  const { id, projectId } = await longLog()
  const { live, socket } = await signedIn(t)
  mock.timers.tick(waitedMs)
  await live.send({ type: 'subscribe', projectId, after: id })
  live.socket.pause()
  while (socket.writableLength < 1_000_000) await turn()
  return { live, socket, projectId }
}

/** The first of 151 entries, of which the others are more than the kernel takes for a reader. */
async function longLog(): Promise<Json> {
  const projectId = await client.project()
  await write(projectId, 1)
  await write(projectId, 150, 80_000)
  return (await client.get(`/v1/projects/${projectId}/events?limit=1`)).items[0]
}

t.test('a ping that is not answered within eight seconds', async t => {
  const { live } = await signedIn(t, { autoPong: false })
  const pinged = new Promise(resolve => live.socket.once('ping', resolve))
  mock.timers.tick(25_000)
  await pinged
  mock.timers.tick(7_999)
  await turn()
  t.equal(live.socket.readyState, live.socket.OPEN)
  mock.timers.tick(1)
  t.equal(await live.closed, 4012)
})

t.test('one that has much to read is not asked for a pong meanwhile', async t => {
  const { live } = await stalled(t, 10_000)
  mock.timers.tick(15_000)
  mock.timers.tick(8_000)
  await turn()
  live.socket.resume()
  while (live.entries().length < 150 && live.socket.readyState === live.socket.OPEN) await turn()
  t.equal(live.entries().length, 150)
})

t.test('one that takes nothing for half a minute is let go, and comes back from where it was', async t => {
  const { live, socket, projectId } = await stalled(t, 0)
  const gone = new Promise(resolve => socket.once('close', resolve))
  mock.timers.tick(29_999)
  t.notOk(socket.destroyed)
  mock.timers.tick(1)
  await gone
  mock.timers.reset()
  live.socket.resume()
  await live.closed
  const seen = live.entries()
  t.ok(seen.length < 150, 'nothing waits for it any more')
  const back = openLive(t, url, { headers: { authorization } })
  await back.send({ type: 'subscribe', projectId, after: seen.at(-1).id })
  await back.next(({ seq }) => seq === 151)
  t.strictSame(
    [...seen, ...back.entries()].map(({ seq }) => seq),
    Array.from({ length: 150 }, (_, n) => n + 2),
  )
})

t.test(
  'a subscribe that fails for a reason of ours ends the socket, so that the client comes back',
  async t => {
    const { id } = await client.post('/v1/projects', {})
    const live = openLive(t, url, { headers: { authorization } })
    await query(database, 'alter table projects rename to projects_elsewhere')
    t.teardown(() => query(database, 'alter table projects_elsewhere rename to projects'))
    await live.send({ type: 'subscribe', projectId: id })
    t.equal(await live.closed, 1012)
    t.match(live.frames.at(-1), { type: 'error', projectId: id, problem: { status: 500 } })
  },
)
