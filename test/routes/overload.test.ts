import t from 'tap'
import { type Json, signIn } from '../helpers/client.ts'
import { isType, openLive } from '../helpers/frames.ts'
import { until } from '../helpers/gateway.ts'
import { startProduction } from '../security/production.ts'

/** From SIGWINCH to SIGWINCH the loop hardly turns, as under work that does not end, but costs the machine nothing. */
const STALL = `--import data:text/javascript,${encodeURIComponent(`
  let stalling = false
  const nap = () => {
    if (!stalling) return
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1200)
    setTimeout(nap, 1)
  }
  process.on('SIGWINCH', () => {
    stalling = !stalling
    nap()
  })`)}`

t.test('a process whose loop lags says so at once, is not taken for dead, and recovers', async t => {
  const gateway = await startProduction(t, { NODE_OPTIONS: STALL })
  const { url, sandbox } = gateway
  const client = await signIn(url)
  const project = await client.project()
  const live = openLive(t, url, { headers: { authorization: `Bearer ${client.token}` } })
  await live.send({ type: 'subscribe', projectId: project })
  await live.next(isType('subscribed'))
  const ask = async (path: string, init: RequestInit = {}) => {
    const answer = await fetch(url + path, init)
    return { status: answer.status, headers: answer.headers, body: (await answer.json()) as Json }
  }
  const authorization = `Bearer ${client.token}`
  const sent = sandbox.journal().length

  gateway.kill('SIGWINCH')
  const refused = await until(async () => {
    const answer = await ask('/v1/me')
    return answer.status === 503 && answer
  }, 40_000)
  t.match(refused.body, { code: 'overloaded', status: 503, retryAfterMs: 2_000, requestId: String })
  t.equal(refused.headers.get('retry-after'), '2')
  t.match(refused.headers.get('content-type'), /^application\/problem\+json/)
  const [message, health, ready] = await Promise.all([
    ask(`/v1/projects/${project}/messages`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: '{"text":"Make it shorter"}',
    }),
    ask('/healthz'),
    ask('/readyz'),
  ])
  t.equal(message.status, 503, 'a message is refused whole')
  t.equal(health.status, 200, 'killing it would only make the others busier')
  t.equal(ready.status, 503, 'what comes anew is sent elsewhere')

  gateway.kill('SIGWINCH')
  await until(async () => (await ask('/readyz')).status === 200, 40_000)
  t.equal((await ask('/v1/me', { headers: { authorization } })).status, 200)
  t.equal((await client.get(`/v1/projects/${project}/runs`)).items.length, 0)
  t.equal(sandbox.journal().length, sent, 'and nothing of it reached the backend')
  await live.send({ type: 'ping' })
  await live.next(isType('pong'))
  t.equal(gateway.process.exitCode, null)
})
