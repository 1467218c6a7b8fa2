import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { logWriter, testApp } from '../helpers/app.ts'
import { signIn } from '../helpers/client.ts'
import { openLive } from '../helpers/frames.ts'

const { url, database } = await testApp(t)
const _write = await logWriter(t, database)
const client = await signIn(url)
const _authorization = `Bearer ${client.token}`

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
