import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { logWriter, testApp } from '../helpers/app.ts'
import { type Client, type Json, signIn } from '../helpers/client.ts'
import { isType, openLive } from '../helpers/frames.ts'
import { until } from '../helpers/gateway.ts'

const PAGE = 'https://app.example'
const { url, database, app } = await testApp(t, { env: { ALLOWED_ORIGINS: PAGE } })
const write = await logWriter(t, database)

/** A guest with a project whose log has `count` entries. */
async function scene(count: number) {
  const client = await signIn(url)
  const id = await client.project()
  if (count > 0) await write(id, count)
  return { client, id, path: `/v1/projects/${id}/events`, kept: await client.log(id) }
}

/** An event stream as the bytes on the wire. */
function stream(t: Test, client: Client, path: string, headers: Record<string, string> = {}) {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  let text = ''
  socket.on('data', bytes => {
    text += bytes
  })
  const ended = new Promise<void>(resolve => socket.on('end', resolve))
  const lines = Object.entries({
    host: 'gateway',
    authorization: `Bearer ${client.token}`,
    accept: 'text/event-stream',
    ...headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  // HTTP/1.0: the body comes as it is, not in chunks.
  socket.write(`GET ${path} HTTP/1.0\r\n${lines.join('')}\r\n`)
  const body = () => text.slice(text.indexOf('\r\n\r\n') + 4)
  return {
    ended,
    body,
    head: () => text.slice(0, text.indexOf('\r\n\r\n')).toLowerCase(),
    has: (wanted: string) => until(async () => body().includes(wanted), 5_000),
    entries: (): Json[] => [...body().matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!)),
  }
}

t.test('page by page', async t => {
  const { client, id, path, kept } = await scene(7)
  t.same(
    kept.map(({ seq, projectId }) => [seq, projectId]),
    [1, 2, 3, 4, 5, 6, 7].map(seq => [seq, id]),
  )
  const first = await client.get(`${path}?limit=3`)
  t.match(first.http.headers.get('content-type'), /^application\/json/)
  t.same(first, { items: kept.slice(0, 3), next: kept[2].id, cursor: kept[2].id, recovered: true })
  const last = await client.get(`${path}?after=${kept[3].id}&limit=3`)
  t.same(
    last,
    { items: kept.slice(4), next: null, cursor: kept[6].id, recovered: true },
    'a full page can be the last',
  )
  const none = await client.get(`${path}?after=${kept[6].id}`)
  t.same(none, { items: [], next: null, cursor: kept[6].id, recovered: true })
  const other = await scene(1)
  const lost = await client.get(`${path}?after=${other.kept[0].id}`)
  t.same(lost, { items: [], next: null, cursor: kept[6].id, recovered: false }, 'a cursor of another project')
  for (const query of [
    'after=garbage',
    'after=',
    `after=${'A'.repeat(129)}`,
    'limit=0',
    'limit=201',
    'before=1',
  ])
    t.match(await client.get(`${path}?${query}`), { code: 'invalid_request', status: 400 }, query)
  t.match(await client.get(other.path), { code: 'not_found', status: 404 })
})

t.test('page, stream and socket show the same entries', async t => {
  const { client, id, path } = await scene(0)
  const live = openLive(t, url, { headers: { authorization: `Bearer ${client.token}` } })
  await live.send({ type: 'subscribe', projectId: id })
  await live.next(isType('subscribed'))
  const events = stream(t, client, path)
  await events.has('retry:')
  for (let i = 0; i < 5; i++) await write(id, 50)
  const kept = await client.log(id)
  await events.has(kept[249].id)
  await live.next(frame => frame.seq === 250)
  t.same(events.entries(), kept)
  t.same(live.entries(), kept)
})

t.test('what a stream looks like', async t => {
  const { client, id, path, kept } = await scene(2)
  const events = stream(t, client, path, { origin: PAGE })
  await events.has('retry:')
  const head = events.head()
  t.match(head, /^http\/1\.1 200 /)
  t.match(head, /^content-type: text\/event-stream\r?$/m)
  t.match(head, /^cache-control: no-cache, no-transform\r?$/m)
  t.match(head, /^x-accel-buffering: no\r?$/m)
  t.match(head, `access-control-allow-origin: ${PAGE}`, 'a page of an allowed origin may read it')
  await write(id, 1)
  await until(async () => events.entries().length === 1)
  const [entry] = events.entries()
  t.equal(entry.seq, kept.length + 1, 'without a cursor from now on')
  t.equal(
    events.body(),
    `retry: 1000\n\nid: ${kept[1].id}\n\nid: ${entry.id}\ndata: ${JSON.stringify(entry)}\n\n`,
    'LF only, and a place to come back to from the beginning',
  )
})

t.test('a stream resumes where its reader was', async t => {
  const { client, id, path, kept } = await scene(250)
  const from = (n: number) => kept[n - 1].id
  const readers = [
    { events: stream(t, client, path, { 'last-event-id': from(10) }), first: 11 },
    { events: stream(t, client, `${path}?after=${from(20)}`), first: 21 },
    // The browser sends both: its address stays that of the first connection.
    { events: stream(t, client, `${path}?after=${from(20)}`, { 'last-event-id': from(30) }), first: 31 },
  ]
  await write(id, 5)
  const all = await client.log(id)
  for (const { events, first } of readers) {
    await events.has(all[254].id)
    t.same(events.entries(), all.slice(first - 1), `from ${first} on, none twice`)
  }
})

t.test('from every position, the three ways to read show the same entries', async t => {
  const { client, id, path, kept } = await scene(9)
  await write(id, 3)
  const all = await client.log(id)
  for (const [n, { id: after }] of kept.entries()) {
    const rest = all.slice(n + 1)
    const page = await client.get(`${path}?after=${after}`)
    t.same(page.items, rest)
    const events = stream(t, client, path, { 'last-event-id': after })
    const live = openLive(t, url, { headers: { authorization: `Bearer ${client.token}` } })
    await live.send({ type: 'subscribe', projectId: id, after })
    await events.has(all.at(-1).id)
    await live.next(frame => frame.seq === all.length)
    t.same(events.entries(), rest, `SSE after ${n + 1}`)
    t.same(live.entries(), rest, `WebSocket after ${n + 1}`)
    live.socket.close()
  }
})

t.test('a stream that cannot be resumed says so and ends', async t => {
  const { client, path, kept } = await scene(3)
  const other = await scene(1)
  const lost = stream(t, client, path, { 'last-event-id': other.kept[0].id })
  await lost.ended
  const data = JSON.stringify({ recovered: false, cursor: kept[2].id })
  t.equal(lost.body(), `retry: 1000\n\nevent: lost\ndata: ${data}\n\n`, 'never a part of what was missed')
  for (const headers of [{ 'last-event-id': 'garbage' }, { 'last-event-id': kept[0].id.slice(0, -4) }]) {
    const refused = stream(t, client, path, headers)
    await refused.ended
    t.match(refused.head(), /^http\/1\.1 400 /)
    t.match(refused.head(), 'content-type: application/problem+json')
    t.match(JSON.parse(refused.body()), { code: 'invalid_request' })
  }
  const foreign = stream(t, client, other.path)
  await foreign.ended
  t.match(foreign.head(), /^http\/1\.1 404 /)
})

t.test('streams end when the app closes', async t => {
  const { client, path, kept } = await scene(1)
  const readers = [stream(t, client, path), stream(t, client, `${path}?after=${kept[0].id}`)]
  await Promise.all(readers.map(reader => reader.has('retry:')))
  const closed = app.close()
  await Promise.all(readers.map(({ ended }) => ended))
  for (const reader of readers) t.equal(reader.body(), `retry: 1000\n\nid: ${kept[0].id}\n\n`)
  await closed
})
