import { once } from 'node:events'
import t, { type Test } from 'tap'
import { logWriter, testApp } from '../helpers/app.ts'
import { type Client, type Json, signIn } from '../helpers/client.ts'
import { isType, openLive } from '../helpers/frames.ts'

const PAGE = 'https://app.example'
const MISSING = '00000000-0000-7000-8000-000000000000'
const { url, database } = await testApp(t, { env: { ALLOWED_ORIGINS: PAGE } })
const write = await logWriter(t, database)
const client = await signIn(url)

async function ready(t: Test, who: Client = client) {
  const live = openLive(t, url, { headers: { authorization: `Bearer ${who.token}` } })
  await live.next(isType('ready'))
  return live
}

t.test('the credential comes in the first frame, the address or a header', async t => {
  const { token, userId } = client
  const tickets = [await client.post('/v1/auth/tickets'), await client.post('/v1/auth/tickets')]
  const [inFrame, inAddress] = tickets.map(({ ticket }) => ticket)
  const byToken = openLive(t, url)
  await byToken.send({ type: 'hello', token })
  const byTicket = openLive(t, url)
  await byTicket.send({ type: 'hello', ticket: inFrame })
  const byAddress = openLive(t, url, { query: `?ticket=${inAddress}` })
  for (const live of [byToken, byTicket, byAddress, await ready(t)])
    t.same(await live.next(isType('ready')), { type: 'ready', userId, pingEveryMs: 25_000 })
  t.equal(byToken.socket.protocol, 'reelgate.v1')
  t.equal(byToken.socket.extensions, '', 'no compression, though the client offered it')

  const again = openLive(t, url)
  await again.send({ type: 'hello', ticket: inFrame })
  t.equal(await again.closed, 4503, 'a ticket is good for one socket')
  t.equal(await openLive(t, url, { query: `?ticket=${inAddress}` }).closed, 4503)
})

t.test('the cookie counts for pages of an allowed origin alone', async t => {
  const response = await fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"delivery":"cookie"}',
  })
  const cookie = response.headers.get('set-cookie')!.split(';')[0]!
  const { user } = (await response.json()) as Json
  for (const headers of [
    { cookie, origin: PAGE },
    { cookie, origin: url },
  ])
    t.equal((await openLive(t, url, { headers }).next(isType('ready'))).userId, user.id)
  for (const origin of [undefined, 'https://evil.example', 'null', `${PAGE}.evil.example`]) {
    const { socket } = openLive(t, url, { headers: { cookie, ...(origin === undefined ? {} : { origin }) } })
    const [, answer] = await once(socket, 'unexpected-response')
    t.equal(answer.statusCode, 403, `no socket at all for ${origin}`)
    t.match(JSON.parse((await answer.toArray()).join('')), { code: 'csrf_required' })
  }
})

t.test('a ticket beside the cookie: the ticket decides, and the cookie never stands in for it', async t => {
  const guest = await fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"delivery":"cookie"}',
  })
  const cookie = guest.headers.get('set-cookie')!.split(';')[0]!
  const { ticket } = await client.post('/v1/auth/tickets')
  const evil = { cookie, origin: 'https://evil.example' }
  const { socket } = openLive(t, url, { query: `?ticket=${ticket}`, headers: evil })
  const [, answer] = await once(socket, 'unexpected-response')
  t.equal(answer.statusCode, 403, 'not for a page of another site')

  const live = openLive(t, url, { query: `?ticket=${ticket}`, headers: { cookie } })
  t.equal(
    (await live.next(isType('ready'))).userId,
    client.userId,
    'no browser, so no origin: whose ticket it is',
  )
  for (const used of [ticket, `rgt_${'A'.repeat(43)}`, 'x']) {
    const refused = openLive(t, url, { query: `?ticket=${used}`, headers: { cookie } })
    t.equal(await refused.closed, 4503)
    t.same(refused.frames, [])
  }
  const empty = openLive(t, url, { query: '?ticket=', headers: { cookie } })
  const [, refusal] = await once(empty.socket, 'unexpected-response')
  t.equal(refusal.statusCode, 403)
})

t.test('who is nobody', async t => {
  const nobody = `rg_${'A'.repeat(43)}`
  for (const [frame, code] of [
    [{ type: 'hello', token: nobody }, 4503],
    [{ type: 'hello', ticket: 'x' }, 4503],
    [{ type: 'subscribe', projectId: MISSING }, 4501],
    [{ type: 'unsubscribe', projectId: MISSING }, 4501],
    [{ type: 'hello', token: nobody, ticket: nobody }, 4501],
  ] as const) {
    const live = openLive(t, url)
    await live.send(frame)
    t.equal(await live.closed, code, JSON.stringify(frame))
    t.same(live.frames, [])
  }
  t.equal(await openLive(t, url, { headers: { authorization: `Bearer ${nobody}` } }).closed, 4503)
})

t.test('subscribe, entries, unsubscribe', async t => {
  const projectId = await client.project()
  await write(projectId, 3)
  const live = openLive(t, url)
  // At once: nothing has to wait for its answer.
  await live.send({ type: 'hello', token: client.token }, { type: 'subscribe', projectId }, { type: 'ping' })
  await live.next(isType('pong'))
  t.same(
    live.frames.map(frame => frame.type),
    ['ready', 'subscribed', 'pong'],
    'without a cursor nothing of the past comes',
  )
  await write(projectId, 300)
  await live.next(frame => frame.seq === 303)
  const kept = await client.log(projectId)
  t.same(live.entries(), kept.slice(3), 'what comes is what the log has, in order')
  t.equal(live.frames[1].cursor, kept[2].id)

  const second = await ready(t)
  await second.send({ type: 'subscribe', projectId, after: kept[1].id })
  await second.next(frame => frame.seq === 303)
  const at = second.frames.findIndex(isType('subscribed'))
  t.same(second.frames[at], { type: 'subscribed', projectId, cursor: kept[1].id, recovered: true })
  t.same(second.frames.slice(at + 1), kept.slice(2), 'all entries come after `subscribed`')

  await live.send({ type: 'unsubscribe', projectId })
  t.same(await live.next(isType('unsubscribed')), { type: 'unsubscribed', projectId })
  await write(projectId, 1)
  await second.next(frame => frame.seq === 304)
  await live.send({ type: 'subscribe', projectId })
  await live.next(frame => frame.type === 'subscribed' && frame.cursor !== kept[2].id)
  t.equal(live.entries().length, 300, 'and none after `unsubscribed`')
})

t.test('a cursor that cannot be continued, and what is no cursor', async t => {
  const projectId = await client.project()
  const other = await client.project()
  await Promise.all([write(projectId, 2), write(other, 5)])
  const foreign = (await client.get(`/v1/projects/${other}`)).cursor
  const [epoch, project] = Buffer.from((await client.log(projectId))[0].id, 'base64url')
    .toString()
    .split('.')
  const made = (text: string) => Buffer.from(text).toString('base64url')
  const ahead = made(`${epoch}.${project}.99`)
  const restored = made(`otherepoch.${project}.1`)
  const live = await ready(t)
  const { cursor } = await client.get(`/v1/projects/${projectId}`)
  for (const after of [foreign, ahead, restored]) {
    const from = live.frames.length
    await live.send({ type: 'subscribe', projectId, after })
    await live.next((frame: Json) => isType('subscribed')(frame) && live.frames.indexOf(frame) >= from)
    t.same(live.frames.slice(from), [{ type: 'subscribed', projectId, cursor, recovered: false }])
  }
  await write(projectId, 1)
  for (const after of ['garbage', made('a.b.c'), '{}']) {
    const from = live.frames.length
    await live.send({ type: 'subscribe', projectId, after })
    await live.next((frame: Json) => live.frames.indexOf(frame) >= from)
    t.match(live.frames.slice(from), [
      { type: 'error', projectId, problem: { code: 'invalid_request', status: 400 } },
    ])
  }
  t.same(live.entries(), [], 'never a part of what was missed')
})

t.test('a project of somebody else is as absent as one that is not', async t => {
  const foreign = await (await signIn(url)).project()
  const live = await ready(t)
  for (const projectId of [MISSING, foreign, 'x', `${foreign}'--`]) {
    await live.send({ type: 'subscribe', projectId })
    const { problem } = await live.next(isType('error', projectId))
    const { problem: first } = await live.next(isType('error', MISSING))
    t.match(problem, { code: 'not_found', status: 404 }, projectId)
    t.same(problem, first, projectId)
  }
  await write(foreign, 1)
  await live.send({ type: 'ping' })
  await live.next(isType('pong'))
  t.same(live.entries(), [])
})
