import t from 'tap'
import { networkOf } from '../../src/routes/limits.ts'
import { testApp } from '../helpers/app.ts'
import { type Json, signIn } from '../helpers/client.ts'
import { query } from '../helpers/cluster.ts'

const guest = (url: string, headers: Record<string, string> = {}) =>
  fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: '{"delivery":"bearer"}',
  })
const statuses = (answers: Response[]) => answers.map(({ status }) => status).sort()

t.test('a user has so many requests a minute, and hears how many are left', async t => {
  const { url } = await testApp(t, { env: { RATE_LIMIT_PER_MINUTE: '20' } })
  const [alice, bob] = await Promise.all([signIn(url), signIn(url)])
  const first = (await alice.get('/v1/me')).http
  t.equal(first.headers.get('ratelimit-policy'), '"user";q=20;w=60')
  t.match(first.headers.get('ratelimit'), /^"user";r=19;t=(60|59)$/)
  const others = await Promise.all(Array.from({ length: 19 }, () => alice.get('/v1/me')))
  t.ok(
    others.every(({ http }) => http.status === 200),
    'all 20',
  )
  const refused = await alice.get('/v1/me')
  t.match(refused, { code: 'rate_limited', status: 429, detail: /user/ })
  t.match(refused.http.headers.get('ratelimit'), /^"user";r=0;t=\d+$/)
  const wait = Number(refused.http.headers.get('retry-after'))
  t.ok(wait > 0 && wait <= 60)
  t.equal(Math.ceil(refused.retryAfterMs / 1_000), wait)
  t.equal((await bob.get('/v1/me')).http.status, 200, 'nobody else is in the way')
})

t.test(
  'an address has ten times as many, whoever asks, and the process can still be asked how it is',
  async t => {
    const { url } = await testApp(t, { env: { RATE_LIMIT_PER_MINUTE: '2' } })
    const ask = () => fetch(`${url}/v1/me`, { headers: { authorization: `Bearer rg_${'A'.repeat(43)}` } })
    for (let i = 0; i < 20; i++) t.equal((await ask()).status, 401)
    const refused = await ask()
    t.equal(refused.status, 429, 'guessing ends')
    t.equal(refused.headers.get('ratelimit-policy'), '"address";q=20;w=60')
    t.equal((await fetch(`${url}/nothing`)).status, 429)
    t.equal((await fetch(`${url}/healthz`)).status, 200)
  },
)

t.test('what costs more has budgets of its own', async t => {
  const { url } = await testApp(t, { env: { RATE_LIMIT_PER_MINUTE: '20' } })
  const client = await signIn(url)
  const id = await client.project()
  const twice = async (path: string, body?: object) => [
    await client.post(path, body),
    await client.post(path, body),
    await client.post(path, body),
  ]
  const tickets = await twice('/v1/auth/tickets')
  t.same(
    tickets.map(({ http }) => http.status),
    [201, 201, 429],
  )
  t.match(tickets[0].http.headers.get('ratelimit-policy'), '"user";q=20;w=60, "tickets";q=2;w=60')
  const messages = await twice(`/v1/projects/${id}/messages`, { text: 'credits' })
  t.same(
    messages.map(({ http }) => http.status),
    [200, 200, 429],
  )
  t.match(messages[2], { code: 'rate_limited', detail: /messages/ })
  t.equal((await client.post(`/v1/projects/${id}/renders`)).http.status, 409)
  t.equal((await client.post(`/v1/projects/${id}/renders`)).http.status, 429)
  t.equal((await client.get('/v1/me')).http.status, 200, 'the rest goes on')
})

t.test('guests are counted exactly, whatever instance they come to', async t => {
  const env = { GUESTS_PER_MINUTE: '10' }
  const one = await testApp(t, { env })
  const two = await testApp(t, { env, database: one.database })
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      guest(i % 2 ? one.url : two.url, { 'x-forwarded-for': `203.0.113.${i}` }),
    ),
  )
  t.same(statuses(answers), [...Array(10).fill(201), ...Array(30).fill(429)])
  t.match((await (await guest(two.url)).json()) as Json, { code: 'rate_limited', detail: /guests/ })
})

t.test('a proxy is believed when it is named, and only then', async t => {
  const env = { GUESTS_PER_MINUTE: '2', TRUST_PROXY: 'loopback' }
  const { url } = await testApp(t, { env })
  const from = async (address: string) => (await guest(url, { 'x-forwarded-for': address })).status
  t.same([await from('203.0.113.1'), await from('203.0.113.1'), await from('203.0.113.1')], [201, 201, 429])
  t.equal(await from('203.0.113.2'), 201)
  t.equal(
    await from('203.0.113.99, 203.0.113.1'),
    429,
    'what a client writes stands before what the proxy does',
  )
  const network = '2001:db8:1:2'
  t.same(
    [await from(`${network}::1`), await from(`${network}:a:b:c:d`), await from(`${network}::3`)],
    [201, 201, 429],
    'one network is one client',
  )
})

t.test('what nobody can count is not given away, reading goes on', async t => {
  const { url, database } = await testApp(t)
  const client = await signIn(url)
  const id = await client.project()
  await query(database, 'drop table rate_limits')
  const refused = await guest(url)
  t.equal(refused.status, 503)
  t.ok(Number(refused.headers.get('retry-after')) > 0)
  t.match((await refused.json()) as Json, { code: 'overloaded' })
  t.match(await client.post(`/v1/projects/${id}/messages`, { text: 'credits' }), { code: 'overloaded' })
  t.equal((await client.get(`/v1/projects/${id}`)).http.status, 200)
})

t.test('addresses and their networks', async t => {
  for (const [address, network] of [
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8::6', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['1::', '1:0:0:0::/64'],
  ])
    t.equal(networkOf(address!), network)
})
