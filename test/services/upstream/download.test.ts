import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import type { FileRequest } from '../../../src/services/upstream/download.ts'
import { alice, closedPort, createClient, type Heard, json, startJournal } from './origin.ts'

const request = (more: Partial<FileRequest> = {}): FileRequest => ({
  ...{
    id: 'r1',
    url: null,
    range: null,
    ifRange: null,
    ifNoneMatch: null,
    signal: new AbortController().signal,
  },
  ...more,
})

const MP4 = { 'content-type': 'video/mp4', etag: '"v1"', 'last-modified': 'Fri, 01 May 2026 10:00:00 GMT' }
type T = { teardown(work: () => unknown): void }

const cdnOf = (t: T) =>
  startJournal(t, (heard, response) => {
    if (heard.url === '/gone') json(response, 404, { message: 'no' })
    else if (heard.url === '/page') response.writeHead(200, { 'content-type': 'text/html' }).end('<html>')
    else if (heard.url === '/zip') response.writeHead(200, { ...MP4, 'content-encoding': 'gzip' }).end('x')
    else if (heard.headers.range === 'bytes=9-')
      response.writeHead(416, { 'content-range': 'bytes */5' }).end('no')
    else if (heard.headers.range)
      response.writeHead(206, { ...MP4, 'content-range': 'bytes 1-2/5' }).end('id')
    else response.writeHead(200, { ...MP4, 'content-length': '5' }).end('video')
  })

async function readFile(outcome: Awaited<ReturnType<ReturnType<typeof createClient>['openFile']>>) {
  if (outcome.kind !== 'ok') return outcome
  return (await buffer(outcome.value.body)).toString()
}

const secrets = (heard: Heard | undefined) => [heard?.headers.authorization, heard?.headers['x-skill-source']]

t.test('the link first, without the token', async t => {
  const cdn = await cdnOf(t)
  const api = await startJournal(t, (_, response) => response.writeHead(500).end())
  const client = createClient(t, api.url)
  const outcome = await client.openFile(alice, request({ url: `${cdn.url}/r.mp4?sig=1` }))
  t.match(outcome, {
    kind: 'ok',
    value: {
      status: 200,
      mediaType: 'video/mp4',
      bytes: 5,
      contentRange: null,
      etag: '"v1"',
      lastModified: MP4['last-modified'],
    },
  })
  t.equal(await readFile(outcome), 'video')
  t.equal(cdn.journal[0]?.url, '/r.mp4?sig=1')
  t.same(secrets(cdn.journal[0]), [undefined, undefined])
  t.equal(api.journal.length, 0)
})

t.test('ranges are handed on', async t => {
  const cdn = await cdnOf(t)
  const client = createClient(t, cdn.url)
  const part = await client.openFile(alice, request({ url: cdn.url, range: 'bytes=1-2', ifRange: '"v1"' }))
  t.match(part, { kind: 'ok', value: { status: 206, contentRange: 'bytes 1-2/5' } })
  t.equal(await readFile(part), 'id')
  t.match(cdn.journal[0]?.headers, { range: 'bytes=1-2', 'if-range': '"v1"' })
  const beyond = await client.openFile(alice, request({ url: cdn.url, range: 'bytes=9-' }))
  t.match(beyond, { kind: 'ok', value: { status: 416, bytes: null, contentRange: 'bytes */5' } })
  t.equal(await readFile(beyond), '')
  await readFile(await client.openFile(alice, request({ url: cdn.url, range: 'bytes=0-\r\nx: y' })))
  t.equal(cdn.journal.at(-1)?.headers.range, undefined, 'only what is a range')
})

t.test('when the link is dead, the endpoint: bytes, a redirect or JSON', async t => {
  const cdn = await cdnOf(t)
  const answers = [
    (response: Parameters<typeof json>[0]) => response.writeHead(200, MP4).end('video'),
    (response: Parameters<typeof json>[0]) => response.writeHead(302, { location: `${cdn.url}/r.mp4` }).end(),
    (response: Parameters<typeof json>[0]) => json(response, 200, { output: { url: `${cdn.url}/r.mp4` } }),
    (response: Parameters<typeof json>[0]) =>
      json(response, 200, { success: true, data: { outputUrl: `${cdn.url}/r.mp4` } }),
  ]
  for (const answer of answers) {
    for (const url of [
      null,
      `${cdn.url}/gone`,
      `${cdn.url}/page`,
      await closedPort(),
      'ftp://cdn.example/x',
      'nonsense',
    ]) {
      const api = await startJournal(t, (_, response) => answer(response))
      const outcome = await createClient(t, api.url).openFile(alice, request({ url }))
      t.equal(await readFile(outcome), 'video', `${answer} ${url}`)
      t.match(api.journal, [
        { url: '/api/render/proxy/r1/download', headers: { authorization: 'Bearer nmv_usr_alice' } },
      ])
    }
  }
  t.ok(
    cdn.journal.every(heard => secrets(heard).every(secret => secret === undefined)),
    'the token stayed at home',
  )
})

t.test('the token is not sent along a redirect, not even home', async t => {
  const api = await startJournal(t, (heard, response) => {
    if (heard.url.endsWith('/download')) response.writeHead(302, { location: '/files/r.mp4' }).end()
    else response.writeHead(200, MP4).end('video')
  })
  t.equal(await readFile(await createClient(t, api.url).openFile(alice, request())), 'video')
  t.same(secrets(api.journal[1]), [undefined, undefined])
})

t.test('three redirects and no more, http only', async t => {
  const cdn = await startJournal(t, (heard, response) => {
    const left = Number(heard.url.slice(1))
    if (heard.url === '/evil') response.writeHead(302, { location: 'file:///etc/passwd' }).end()
    else if (left > 0) response.writeHead(307, { location: `/${left - 1}` }).end()
    else response.writeHead(200, MP4).end('video')
  })
  const api = await startJournal(t, (_, response) => json(response, 404, { error: 'no' }))
  const client = createClient(t, api.url)
  t.equal(await readFile(await client.openFile(alice, request({ url: `${cdn.url}/3` }))), 'video')
  t.same(await client.openFile(alice, request({ url: `${cdn.url}/4` })), { kind: 'not_found' })
  t.same(await client.openFile(alice, request({ url: `${cdn.url}/evil` })), { kind: 'not_found' })
})

t.test('what is no file', async t => {
  const table: [number, Record<string, string>, string, object][] = [
    [200, { 'content-type': 'text/html' }, '<html>', { kind: 'protocol', delivered: 'unknown' }],
    [200, { 'content-type': 'application/xml' }, '<Error/>', { kind: 'protocol', delivered: 'unknown' }],
    [
      200,
      { 'content-type': 'application/json' },
      '{"success":true,"data":{}}',
      { kind: 'protocol', delivered: 'unknown' },
    ],
    [200, { 'content-type': 'application/json' }, '{"code":1001}', { kind: 'auth' }],
    [401, { 'content-type': 'application/json' }, '{}', { kind: 'auth' }],
    [404, { 'content-type': 'application/json' }, '{}', { kind: 'not_found' }],
    [410, { 'content-type': 'text/html' }, 'gone', { kind: 'not_found' }],
    [
      503,
      { 'content-type': 'text/html' },
      'x',
      { kind: 'transient', delivered: 'unknown', cause: 'unavailable' },
    ],
    [200, { ...MP4, 'content-encoding': 'br' }, 'x', { kind: 'protocol', delivered: 'unknown' }],
  ]
  for (const [status, headers, body, expected] of table) {
    const api = await startJournal(t, (_, response) => response.writeHead(status, headers).end(body))
    t.same(
      await createClient(t, api.url).openFile(alice, request()),
      expected,
      JSON.stringify([status, headers]),
    )
  }
})

t.test('leaving in the middle closes the connection', async t => {
  const api = await startJournal(t, (_, response) => {
    response.writeHead(200, MP4)
    const pour = () => {
      while (!response.destroyed && response.write(Buffer.alloc(1 << 16)));
    }
    response.on('drain', pour)
    pour()
  })
  const client = createClient(t, api.url)
  const controller = new AbortController()
  const outcome = await client.openFile(alice, request({ signal: controller.signal }))
  if (outcome.kind !== 'ok') throw new Error(outcome.kind)
  const { body } = outcome.value
  await once(body, 'readable')
  controller.abort()
  await t.rejects(buffer(body))
  t.same(await client.openFile(alice, request({ signal: AbortSignal.abort() })), { kind: 'aborted' })
})
