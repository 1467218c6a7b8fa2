import { mock } from 'node:test'
import pg from 'pg'
import t, { type Test } from 'tap'
import { logWriter, testApp } from '../helpers/app.ts'
import { signIn } from '../helpers/client.ts'
import { query } from '../helpers/cluster.ts'
import { openLive } from '../helpers/frames.ts'

const { url, database } = await testApp(t)
const _write = await logWriter(t, database)
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
