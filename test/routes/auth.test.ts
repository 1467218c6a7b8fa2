import { once } from 'node:events'
import t from 'tap'
import { WebSocket } from 'ws'
import { testApp } from '../helpers/app.ts'
import { follow, type Json, signIn } from '../helpers/client.ts'
import { query } from '../helpers/cluster.ts'

const { url, database } = await testApp(t)

const guest = (body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
const me = (headers: Record<string, string>) => fetch(`${url}/v1/me`, { headers })

t.test('a guest with a bearer token', async t => {
  const response = await guest({ delivery: 'bearer' }, { 'accept-language': 'zh-CN,zh;q=0.9,en;q=0.8' })
  const body = (await response.json()) as Json
  t.equal(response.status, 201)
  t.equal(response.headers.get('set-cookie'), null)
  t.match(body.token, /^rg_[\w-]{43}$/)
  t.match(body.user, { id: /^[0-9a-f-]{36}$/, kind: 'guest', language: 'zh-CN' })
  t.ok(Date.parse(body.expiresAt) > Date.now() + 86_400_000, 'it lasts more than a day')

  const answer = await me({ authorization: `Bearer ${body.token}` })
  const expected = { user: body.user, upstream: { kind: 'none', state: 'none' } }
  t.same(await answer.json(), expected, 'its upstream account is made when it is needed')
})

t.test('a guest with a cookie', async t => {
  const response = await guest({ delivery: 'cookie' })
  const body = (await response.json()) as Json
  t.equal(response.status, 201)
  t.notOk('token' in body, 'no script of the page can read it')
  const [pair = '', ...attributes] = response.headers.get('set-cookie')!.split('; ')
  t.match(pair, /^__Host-reelgate=rg_[\w-]{43}$/)
  const expires = attributes.find(attribute => attribute.startsWith('Expires='))!
  t.ok(Math.abs(Date.parse(expires.slice(8)) - Date.parse(body.expiresAt)) < 1_000)
  const others = attributes.filter(attribute => attribute !== expires)
  t.same(others.sort(), ['HttpOnly', 'Path=/', 'SameSite=Lax', 'Secure'], 'no Domain: __Host- forbids it')
  t.match(await (await me({ cookie: `a=b; ${pair}` })).json(), { user: { id: body.user.id } })
})

t.test('a guest has a language whatever its client says', async t => {
  for (const [said, understood] of [
    ['de', 'de'],
    ['pt-BR;q=0.9, en', 'pt-BR'],
    ['*', 'en'],
    ['<script>', 'en'],
    ['', 'en'],
  ]) {
    const { user } = (await (
      await guest({ delivery: 'bearer' }, { 'accept-language': said! })
    ).json()) as Json
    t.equal(user.language, understood, `"${said}"`)
  }
  const long = { 'accept-language': `en${'-abcdefgh'.repeat(800)}` }
  t.equal((await guest({ delivery: 'bearer' }, long)).status, 201, 'also in 7 KB')
})

t.test('a body that is not exactly what is asked for', async t => {
  const wrong = [{}, { delivery: 'post' }, { delivery: 'bearer', admin: true }, [], 'bearer', null]
  for (const body of wrong) {
    const response = await guest(body)
    t.equal(response.status, 400, JSON.stringify(body))
    t.match(response.headers.get('content-type'), /^application\/problem\+json/)
    t.match(await response.json(), { code: 'invalid_request', requestId: String })
  }
})

t.test('signing out ends the session, with its sockets and tickets, and no other', async t => {
  const client = await signIn(url)
  const project = await client.project()
  const other = await signIn(url)
  const [live, untouched] = await Promise.all([
    follow(t, client, project),
    follow(t, other, await other.project()),
  ])
  const { ticket } = await client.post('/v1/auth/tickets')
  const signedOut = await client.remove('/v1/auth/session')
  const since = Date.now()
  t.equal(signedOut.http.status, 204)
  t.equal((await client.get('/v1/me')).http.status, 401)
  t.equal((await client.remove('/v1/auth/session')).http.status, 401)
  const late = new WebSocket(`${url.replace('http', 'ws')}/v1/live?ticket=${ticket}`)
  t.equal((await once(late, 'close'))[0], 4503, 'a ticket dies with its session')

  t.equal((await live.closed).code, 4503)
  t.ok(Date.now() - since < 5_000)
  t.equal((await other.get('/v1/me')).http.status, 200)
  const name = (await other.post('/v1/projects', { name: 'still here' })).name
  t.equal(name, 'still here')
  t.equal(await Promise.race([untouched.closed, 'open']), 'open')
})

t.test('it ends them at every other instance, too, within 5 s', async t => {
  const second = await testApp(t, { database })
  const client = await signIn(url)
  const there = client.at(second.url)
  const project = await client.project()
  const live = await follow(t, there, project)
  const stream = await fetch(`${second.url}/v1/projects/${project}/events`, {
    headers: { authorization: `Bearer ${client.token}`, accept: 'text/event-stream' },
  })
  const read = stream.text().catch(() => {})
  await client.remove('/v1/auth/session')
  const since = Date.now()
  t.equal((await there.get('/v1/me')).http.status, 401, 'at once for what is asked there')
  t.equal((await live.closed).code, 4503)
  await read
  t.ok(Date.now() - since < 5_000)
})

t.test('signing out with the cookie takes it away', async t => {
  const cookie = (await guest({ delivery: 'cookie' })).headers.get('set-cookie')!.split(';')[0]!
  const signOut = (headers: Record<string, string>) =>
    fetch(`${url}/v1/auth/session`, { method: 'DELETE', headers: { cookie, ...headers } })
  t.equal((await signOut({})).status, 403, 'not for a page that is not ours')
  const response = await signOut({ 'x-csrf': '1' })
  t.equal(response.status, 204)
  const removed = response.headers.get('set-cookie')!
  t.match(removed, /^__Host-reelgate=;.*Expires=Thu, 01 Jan 1970/)
  for (const attribute of ['Secure', 'Path=/']) t.match(removed, attribute, '__Host- needs it to be replaced')
  t.equal((await me({ cookie })).status, 401)
})

t.test('a session ends 30 days after its last use, and 180 after its beginning', async t => {
  const set = (userId: string, column: string, age: string) =>
    query(
      database,
      `update client_sessions set ${column} = now() - interval '${age}' where user_id = '${userId}'`,
    )
  const status = async (client: { get(path: string): Promise<Json> }) =>
    (await client.get('/v1/me')).http.status

  const idle = await signIn(url)
  const live = await follow(t, idle, await idle.project())
  const { ticket } = await idle.post('/v1/auth/tickets')
  await set(idle.userId, 'used_at', '31 days')
  t.equal(await status(idle), 401)
  t.equal((await live.closed).code, 4503, 'its readers are let go')
  const late = new WebSocket(`${url.replace('http', 'ws')}/v1/live?ticket=${ticket}`)
  t.equal((await once(late, 'close'))[0], 4503)

  const used = await signIn(url)
  await set(used.userId, 'used_at', '29 days')
  t.equal(await status(used), 200)
  await set(used.userId, 'expires_at', '1 second')
  t.equal(await status(used), 401)

  const back = await signIn(url)
  await set(back.userId, 'used_at', '29 days')
  t.equal(await status(back), 200)
  await query(
    database,
    `update client_sessions set used_at = used_at - interval '29 days' where user_id = '${back.userId}'`,
  )
  t.equal(await status(back), 200, 'each use begins the time anew')
})
