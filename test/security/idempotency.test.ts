import { randomUUID } from 'node:crypto'
import t from 'tap'
import { asUser, type Client, type Json, signIn } from '../helpers/client.ts'
import { startGateway, until } from '../helpers/gateway.ts'
import { allOperations, call, smallest } from './operations.ts'
import { startProduction } from './production.ts'

const one = await startProduction(t)
const two = await startGateway(t, one.settings)
const alice = await signIn(one.url)
const at = (client: Client, url: string) => asUser(url, client.token, client.userId)
const messagesSent = (text: string) =>
  one.sandbox.journal().filter(entry => entry.endpoint === 'run' && entry.text === text && entry.accepted)
    .length

t.test('50 at once, on two instances: one message, one answer', async t => {
  const project = await alice.project()
  const headers = { 'idempotency-key': randomUUID() }
  const ask = (i: number) =>
    at(alice, i % 2 ? one.url : two.url).post(
      `/v1/projects/${project}/messages`,
      { text: 'fifty times', intent: 'chat' },
      headers,
    )
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => ask(i)))
  const accepted = answers.filter(({ http }) => http.status === 202)
  t.ok(accepted.length >= 1)
  t.equal(new Set(accepted.map(({ run }) => run.id)).size, 1)
  t.equal(accepted.filter(({ http }) => !http.headers.has('idempotent-replayed')).length, 1, 'it ran once')
  for (const { http, code } of answers.filter(({ http }) => http.status !== 202)) {
    t.equal(code, 'idempotency_in_progress')
    t.ok(Number(http.headers.get('retry-after')) > 0)
  }
  const again = await ask(0)
  t.equal(again.run.id, accepted[0].run.id)
  await until(async () => (await alice.get(`/v1/runs/${again.run.id}`)).state === 'completed')
  t.equal(messagesSent('fifty times'), 1)
  const other = await alice.post(
    `/v1/projects/${project}/messages`,
    { text: 'another', intent: 'chat' },
    headers,
  )
  t.match(other, { code: 'idempotency_mismatch', status: 422 })
})

t.test('a key is its user’s and its route’s', async t => {
  const headers = { 'idempotency-key': randomUUID() }
  const bob = await signIn(two.url)
  const mine = await alice.post('/v1/projects', { name: 'mine' }, headers)
  const theirs = await bob.post('/v1/projects', { name: 'theirs' }, headers)
  t.equal(theirs.http.status, 201)
  t.not(theirs.id, mine.id)
  t.notOk(theirs.http.headers.has('idempotent-replayed'))
})

t.test('every call that creates or starts something honours it, and refuses a key that is none', async t => {
  const creating = (await allOperations()).filter(
    ({ method, body, policy, path }) =>
      method === 'POST' && body && policy === 'signed-in' && !path.includes('agui'),
  )
  t.ok(creating.length >= 4)
  const id = await alice.project()
  for (const operation of creating)
    for (const key of ['', 'x'.repeat(256), 'a b']) {
      const headers = { authorization: `Bearer ${alice.token}`, 'idempotency-key': key }
      const answer = await call(one.url, operation, { id, body: smallest(operation.body), headers })
      t.equal(answer.status, 400, `${operation.name} with "${key.slice(0, 9)}"`)
    }
})

t.test('after kill -9 the answer is the same, from another instance', async t => {
  const project = await alice.project()
  const headers = { 'idempotency-key': randomUUID() }
  const body = { text: 'before the kill', intent: 'chat' }
  const post = (url: string): Promise<Json> =>
    at(alice, url).post(`/v1/projects/${project}/messages`, body, headers)
  const first = await post(one.url)
  one.kill('SIGKILL')
  await one.ended
  const again = await post(two.url)
  t.equal(again.http.status, 202)
  t.equal(again.http.headers.get('idempotent-replayed'), 'true')
  t.equal(again.run.id, first.run.id)
  const survivor = at(alice, two.url)
  await until(async () =>
    ['completed', 'failed'].includes((await survivor.get(`/v1/runs/${first.run.id}`)).state),
  )
  t.ok(messagesSent(body.text) <= 1, 'sent once at most')
  t.equal((await survivor.get(`/v1/projects/${project}/runs`)).items.length, 1)
})
