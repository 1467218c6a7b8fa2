import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import t, { type Test } from 'tap'
import { loadProjectState } from '../../src/db/projects.ts'
import { createHttp } from '../../src/http.ts'
import type { Services } from '../../src/routes/index.ts'
import { createIdempotency } from '../../src/services/idempotency.ts'
import { createLimits } from '../../src/services/limits.ts'
import { createSessions } from '../../src/services/users/sessions.ts'
import { clip, problemOf, setStage, sha256, tiny, until } from '../services/uploads/stage.ts'

async function startHttp(t: Test, options: Parameters<typeof setStage>[1] = {}) {
  const stage = await setStage(t, options)
  const sessions = createSessions(stage)
  const http = await createHttp({
    config: {
      http: {
        host: '127.0.0.1',
        port: 0,
        allowedOrigins: [],
        trustProxy: false,
        connectionsPerAddress: 1_000,
      },
      logLevel: 'silent',
    },
    // The other routes are there, but nobody calls them.
    services: {
      ...stage,
      sessions,
      idempotency: createIdempotency(stage),
      limits: createLimits({ pool: stage.pool, perMinute: 600, guestsPerMinute: 30 }),
    } as unknown as Services,
    closing: new AbortController().signal,
    isReady: async () => true,
  })
  const url = await http.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => http.close())
  const signIn = async (userId: string) => ({
    authorization: `Bearer ${(await sessions.open(stage.db, userId, 'bearer')).token}`,
    'x-client-app': 'ios/1.0',
  })
  const headers = await signIn(stage.alice.userId)
  const path = `/v1/projects/${stage.project.id}/uploads`
  const post = (body: FormData | string, more: Record<string, string> = {}) =>
    fetch(url + path, { method: 'POST', headers: { ...headers, ...more }, body })
  return { ...stage, url, path, headers, signIn, post }
}

function form(...files: [name: string, bytes: Buffer, type?: string][]) {
  const form = new FormData()
  for (const [name, bytes, type = 'video/mp4'] of files)
    form.append('file', new Blob([new Uint8Array(bytes)], { type }), name)
  return form
}

const BOUNDARY = 'b0undary'
const part = (name: string, disposition = 'name="file"', type = 'video/mp4') =>
  `--${BOUNDARY}\r\ncontent-disposition: form-data; ${disposition}; filename="${name}"\r\ncontent-type: ${type}\r\n\r\n`

/** A request whose body is written by hand. `answer` comes whenever the server gives it. */
function open(url: string, headers: Record<string, string>) {
  const { hostname, port, pathname } = new URL(url)
  const outgoing = httpRequest({
    hostname,
    port,
    path: pathname,
    method: 'POST',
    headers: { ...headers, 'content-type': `multipart/form-data; boundary=${BOUNDARY}` },
  })
  outgoing.on('error', () => {})
  const answer = once(outgoing, 'response').then(async ([response]) => {
    const chunks: Buffer[] = []
    for await (const chunk of response) {
      chunks.push(chunk)
      if (Buffer.concat(chunks).length >= Number(response.headers['content-length'])) break
    }
    return {
      status: response.statusCode,
      headers: response.headers,
      body: JSON.parse(Buffer.concat(chunks).toString()),
    }
  })
  answer.catch(() => {})
  return { outgoing, answer }
}

async function raw(url: string, headers: Record<string, string>, body: string) {
  const { outgoing, answer } = open(url, headers)
  outgoing.end(body)
  return answer
}

t.test('one file', async t => {
  const { url, headers, signIn, bob, post, heard } = await startHttp(t)
  const answer = await post(form(['beach day.mp4', clip]))
  t.equal(answer.status, 201)
  const { items } = (await answer.json()) as { items: { id: string }[] }
  t.match(items, [
    { state: 'ready', filename: 'beach day.mp4', bytes: clip.length, media: { kind: 'video' } },
  ])
  const location = answer.headers.get('location')!
  t.equal(location, `/v1/uploads/${items[0]!.id}`)
  t.strictSame(await (await fetch(url + location, { headers })).json(), items[0])
  t.match(heard(), [{ sha256: sha256(clip), platform: 'ios' }])
  t.equal((await fetch(url + location, { headers: await signIn(bob.userId) })).status, 404)
})

t.test('several files', async t => {
  const { url, path, headers, post } = await startHttp(t)
  const answer = await post(
    form(
      ['a.mp4', clip],
      ['page.png', Buffer.from('<html>'), 'image/png'],
      ['b.png', tiny('png'), 'image/png'],
    ),
  )
  t.equal(answer.status, 201)
  t.equal(answer.headers.get('location'), null)
  const { items } = (await answer.json()) as { items: unknown[] }
  t.match(items, [
    { state: 'ready' },
    { state: 'failed', problem: { code: 'unsupported_media' } },
    { state: 'ready' },
  ])
  const list = await (await fetch(`${url}${path}?limit=2`, { headers })).json()
  t.match(list, { items: [{ filename: 'b.png' }, { filename: 'page.png' }], next: String })
})

t.test('a refused file is a problem', async t => {
  const { post } = await startHttp(t)
  const answer = await post(form(['song.mp4', tiny('mp3')]))
  t.equal(answer.status, 415)
  t.match(answer.headers.get('content-type'), /^application\/problem\+json/)
  t.match(await answer.json(), {
    code: 'unsupported_media',
    userState: { message: /mp4/ },
    requestId: String,
  })
})

t.test('names cannot reach into headers or paths', async t => {
  const { url, path, headers, db, project, heard } = await startHttp(t)
  const names = [
    '../../etc/x.mp4',
    'C:\\x.mp4',
    'a%22; name=%22x.mp4',
    '%0d%0aX-Evil: 1.mp4',
    '夏天\u202e4pm.mp4',
  ]
  for (const name of names) {
    const answer = await raw(url + path, headers, `${part(name)}${clip.toString('latin1')}`)
    t.equal(answer.status, 409, 'a body without its end is an interruption')
  }
  for (const name of names) {
    const { outgoing, answer } = open(url + path, headers)
    outgoing.write(part(name))
    outgoing.write(clip)
    outgoing.end(`\r\n--${BOUNDARY}--\r\n`)
    t.match((await answer).body, { items: [{ state: 'ready' }] })
  }
  t.ok(
    heard()
      .filter(entry => entry.accepted)
      .every(entry => entry.sha256 === sha256(clip)),
  )
  const { media } = (await loadProjectState(db, project.id))!
  const told = (media as { name: string }[]).map(one => one.name)
  t.ok(told.length >= 1)
  for (const name of told) t.match(name, /^[^/\\\r\n"%\u202e]+\.mp4$/)
})

t.test('multipart bodies that are wrong', async t => {
  const { url, path, headers, post, heard } = await startHttp(t)
  const end = `--${BOUNDARY}--\r\n`
  const bodies = {
    nothing: '',
    'no part': end,
    garbage: 'garbage',
    'another field': `${part('a.mp4', 'name="files"')}x\r\n${end}`,
    'a field': `--${BOUNDARY}\r\ncontent-disposition: form-data; name="title"\r\n\r\nx\r\n${end}`,
    'a file without a name': `--${BOUNDARY}\r\ncontent-disposition: form-data; name="file"\r\n\r\nx\r\n${end}`,
    'a prototype': `${part('a.mp4', 'name="__proto__"')}x\r\n${end}`,
    'a constructor': `${part('a.mp4', 'name="constructor"')}x\r\n${end}`,
    'a thousand fields': `${`--${BOUNDARY}\r\ncontent-disposition: form-data; name="f"\r\n\r\nx\r\n`.repeat(1000)}${end}`,
    'endless headers': `--${BOUNDARY}\r\n${'x-more: and more\r\n'.repeat(20_000)}`,
    'one endless header': `--${BOUNDARY}\r\nx-more: ${'x'.repeat(300_000)}`,
    'a thousand files': `${`${part('a.txt')}x\r\n`.repeat(1_000)}${end}`,
    'a file in pieces': `${part('a.mp4')}half`,
  }
  for (const [what, body] of Object.entries(bodies)) {
    const { status } = await raw(url + path, headers, body)
    t.ok(status >= 400 && status < 500, `${what}: ${status}`)
  }
  const withoutBoundary = await post('x', { 'content-type': 'multipart/form-data' })
  t.equal(withoutBoundary.status, 400)
  t.equal((await post('x', { 'content-type': 'text/plain' })).status, 400)
  const pretending = JSON.stringify({ file: { filename: 'a.mp4', _buf: 'x', toBuffer: 1 } })
  t.equal((await post(pretending, { 'content-type': 'application/json' })).status, 400)
  t.same(heard(), [])
})

t.test('lengths that are wrong leave nothing behind', async t => {
  const { url, path, headers, heard, told } = await startHttp(t)
  const body = `${part('a.txt')}x\r\n--${BOUNDARY}--\r\n`
  for (const length of ['1', '-1', 'x']) {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    const type = `multipart/form-data; boundary=${BOUNDARY}`
    const lines = {
      ...headers,
      host: 'x',
      connection: 'close',
      'content-type': type,
      'content-length': length,
    }
    const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`)
    socket.on('error', () => {}).write(`POST ${path} HTTP/1.1\r\n${head.join('')}\r\n${body}`)
    const [answer] = await once(socket, 'data')
    t.match(String(answer), /^HTTP\/1\.1 4\d\d /, length)
    socket.destroy()
  }
  const { outgoing } = open(url + path, { ...headers, 'content-length': '9000000' })
  outgoing.write(part('a.mp4'))
  outgoing.write(clip)
  await until(async () => (await told()).length)
  outgoing.destroy()
  await until(async () => (await told()).find(upload => upload.state === 'failed'))
  t.ok(heard().every(entry => !entry.accepted))
})

t.test('more files than are taken at once', async t => {
  const { post, heard } = await startHttp(t)
  const files = Array.from({ length: 25 }, (_, i): [string, Buffer] => [`${i}.txt`, Buffer.from('x')])
  t.equal((await post(form(...files))).status, 413)
  const images = files.map((_, i): [string, Buffer, string] => [`${i}.png`, tiny('png'), 'image/png'])
  const answer = await post(form(...images))
  t.equal(answer.status, 201)
  t.equal(((await answer.json()) as { items: unknown[] }).items.length, 20)
  t.equal(heard().length, 20)
})

t.test('by address', async t => {
  const { post, heard } = await startHttp(t)
  const json = (body: unknown, more = {}) =>
    post(JSON.stringify(body), { 'content-type': 'application/json', ...more })
  const answer = await json({ urls: ['https://films.invalid/a.mp4'] }, { 'idempotency-key': 'one' })
  t.equal(answer.status, 201)
  t.match(await answer.json(), { items: [{ state: 'ready', filename: 'a.mp4' }] })
  const again = await json({ urls: ['https://films.invalid/a.mp4'] }, { 'idempotency-key': 'one' })
  t.equal(again.headers.get('idempotent-replayed'), 'true')
  t.equal(heard().length, 1)
  t.equal((await json({ urls: ['http://[::ffff:10.0.0.1]/a.mp4'] })).status, 422)
  for (const body of [{}, { urls: [] }, { urls: [1, {}] }, { urls: ['https://a.example/a.mp4'], token: 'x' }])
    t.equal((await json(body)).status, 400, JSON.stringify(body))
  t.equal(heard().length, 1)
})

t.test('a multipart request has no idempotency key: its body cannot be compared', async t => {
  const { post, heard } = await startHttp(t)
  for (const bytes of [clip, tiny('mp4')]) {
    const answer = await fetchWithKey(post, form(['a.mp4', bytes]))
    t.equal(answer.status, 201)
  }
  t.equal(heard().length, 2)
})

const fetchWithKey = (
  post: (body: FormData, more: Record<string, string>) => Promise<Response>,
  body: FormData,
) => post(body, { 'idempotency-key': 'same' })

t.test('who may not upload is told so before the body is there, and the connection ends', async t => {
  const { url, path, headers, signIn, bob } = await startHttp(t)
  for (const [who, status] of [
    [{}, 401],
    [await signIn(bob.userId), 404],
    [{ ...headers, 'x-other': 'project' }, 404],
  ] as const) {
    const to = 'x-other' in who ? path.replace(/\w{12}(?=\/uploads)/, '0'.repeat(12)) : path
    const { outgoing, answer } = open(url + to, who)
    outgoing.write(part('a.mp4'))
    outgoing.write(clip)
    const { status: got, headers: told } = await answer
    t.equal(got, status)
    t.equal(told.connection, 'close')
    outgoing.destroy()
  }
})

t.test(
  'refused in the middle: the client is answered although it has not finished, and can read it',
  async t => {
    const { url, path, headers, sandbox } = await startHttp(t, { limits: { discardMs: 20 } })
    sandbox.faults.add({ on: 'upload', answer: 'code', code: 4001 })
    const { outgoing, answer } = open(url + path, headers)
    outgoing.write(part('a.mp4'))
    outgoing.write(clip)
    const refused = await answer
    t.match(refused, { status: 415, headers: { connection: 'close' }, body: { code: 'unsupported_media' } })
    outgoing.end(Buffer.alloc(3_000_000))
    await once(outgoing, 'close')
  },
)

t.test('a client that goes on sending for ever is left after a while', async t => {
  const { url, path, sandbox } = await startHttp(t)
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  const head = [
    `POST ${path} HTTP/1.1`,
    'host: x',
    'content-length: 9000000000',
    `content-type: multipart/form-data; boundary=${BOUNDARY}`,
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  const [answer] = await once(socket, 'data')
  t.match(String(answer), /^HTTP\/1\.1 401 /)
  const timer = setInterval(() => socket.write(Buffer.alloc(1000)), 50)
  t.teardown(() => clearInterval(timer))
  await once(socket, 'close')
  t.same(sandbox.journal(), [])
})

t.test('a client that leaves in the middle leaves nothing behind', async t => {
  const { url, path, headers, heard, told } = await startHttp(t)
  const { outgoing } = open(url + path, headers)
  outgoing.write(part('a.mp4'))
  outgoing.write(clip)
  await until(async () => (await told()).length)
  outgoing.write(Buffer.alloc(1_000_000), () => outgoing.destroy())
  t.match(await until(async () => (await told()).find(upload => upload.state === 'failed')), {
    problem: { code: 'upload_interrupted' },
  })
  await until(() => heard().length)
  t.match(heard(), [{ answer: 'aborted', accepted: false }])
})

t.test('a client that left before the upload began', async t => {
  const { url, path, headers, sandbox, told, uploads } = await startHttp(t)
  const { receive } = uploads
  let received: ReturnType<typeof receive> | undefined
  uploads.receive = (...request) => {
    received = receive(...request)
    return received
  }
  sandbox.faults.add({ on: 'state', answer: 'slow', ms: 300 })
  const { outgoing } = open(url + path, headers)
  outgoing.write(part('a.mp4'))
  await until(() => sandbox.journal().some(entry => entry.endpoint === 'state'))
  outgoing.destroy()
  t.match(await problemOf(received!), { code: 'upload_interrupted' }, 'nobody waits for its body')
  t.same(await told(), [])
})

t.test('a client that leaves, at each other stage', async t => {
  const { url, path, headers, sandbox, heard, told, uploads } = await startHttp(t)
  const { receive } = uploads
  let received: Promise<unknown>
  uploads.receive = (...request) => {
    const receiving = receive(...request)
    received = receiving.catch((error: unknown) => error)
    return receiving
  }
  /** What came of one that sends `pieces`, each once the one before has got as far as it can, and then leaves. */
  async function leave(pieces: (string | Buffer)[], before: () => unknown) {
    const beforeIt = (await told()).length
    const { outgoing } = open(url + path, headers)
    for (const piece of pieces) outgoing.write(piece)
    await until(before)
    outgoing.destroy()
    const answered = await received
    return { answered, told: (await told()).slice(beforeIt) }
  }
  const reads = () => sandbox.journal().filter(entry => entry.endpoint === 'state').length
  let read = 0
  const isReading = () => reads() > read

  t.same((await leave([part('a.mp4').slice(0, 60)], isReading)).told, [], 'in the headers of a part')

  read = reads()
  const early = await leave([part('a.mp4'), clip.subarray(0, 1_000)], isReading)
  t.match(early.told, [{ state: 'failed', bytesForwarded: 0, problem: { code: 'upload_interrupted' } }])
  t.equal(early.told.length, 1)
  t.same(heard(), [], 'in the first bytes: nothing has left for the upstream')

  const isReady = async () => (await told()).some(({ state }) => state === 'ready')
  const next = `\r\n${part('b.mp4').slice(0, 60)}`
  const between = await leave([part('a.mp4'), clip, next], isReady)
  t.match(between.answered, [{ state: 'ready', filename: 'a.mp4' }], 'between two parts: the first is taken')
  t.same(
    between.told.map(({ filename, state }) => [filename, state]),
    [
      ['a.mp4', 'forwarding'],
      ['a.mp4', 'ready'],
    ],
  )

  const sent = heard().length
  sandbox.faults.add({ on: 'upload', answer: 'slow', ms: 300 })
  const late = await leave([part('a.mp4'), clip, `\r\n--${BOUNDARY}--\r\n`], () => heard().length > sent)
  t.match(late.told.at(-1), { state: 'ready' }, 'after the last byte: the answer is not for the client alone')
  t.match(heard().at(-1), { accepted: true, sha256: sha256(clip) })
  t.equal((await fetch(`${url}${path}?limit=1`, { headers })).status, 200)
})

/** An upstream that takes everything but the bytes of an upload. */
async function startDeafFront(t: Test, sandboxUrl: string, uploads: IncomingMessage[]) {
  const server = createServer(async (req, res) => {
    if (req.url?.startsWith('/api/upload-video/')) return void uploads.push(req)
    const { method = '', headers } = req
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk)
    const body = method === 'GET' ? null : Buffer.concat(chunks)
    const { host, connection, 'transfer-encoding': _, ...rest } = headers as Record<string, string>
    const answer = await fetch(sandboxUrl + req.url, { method, headers: rest, body })
    res.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.test('an upstream that takes nothing holds the client back, and nothing piles up in between', async t => {
  const uploads: IncomingMessage[] = []
  const front = (sandboxUrl: string) => startDeafFront(t, sandboxUrl, uploads)
  const { url, path, headers, told } = await startHttp(t, { maxBytes: 500_000_000, front })
  const { outgoing } = open(url + path, headers)
  outgoing.write(part('a.mp4'))
  outgoing.write(clip)
  await until(() => uploads.length)

  const offered = 64
  const mb = Buffer.alloc(1 << 20, 7)
  const write = () =>
    new Promise<boolean>(resolve => {
      outgoing.write(mb, error => resolve(!error))
      setTimeout(resolve, 500, false)
    })
  let taken = 0
  while (taken < offered && (await write())) taken++
  t.ok(taken > 0 && taken < offered / 2, `${taken} MB of ${offered} went into the buffers of the sockets`)

  outgoing.destroy()
  const [upload] = uploads as [IncomingMessage]
  upload.on('error', () => {}).resume()
  await until(() => upload.closed)
  t.notOk(upload.complete, 'what a client began and left is not ended for it')
  await until(async () => (await told()).find(one => one.state === 'failed'))
})

t.test('32 MB in pieces arrive as they were', async t => {
  const { url, path, headers, heard } = await startHttp(t, { maxBytes: 100_000_000 })
  const { outgoing, answer } = open(url + path, headers)
  const hash = createHash('sha256')
  const write = async (bytes: Buffer) => {
    hash.update(bytes)
    if (!outgoing.write(bytes)) await once(outgoing, 'drain')
  }
  outgoing.write(part('a.mp4'))
  await write(clip)
  for (let i = 0; i < 32; i++) await write(Buffer.alloc((1 << 20) + i, `\r\n--${BOUNDARY.slice(0, 4)}${i}`))
  outgoing.end(`\r\n--${BOUNDARY}--\r\n`)
  t.match(await answer, { status: 201, body: { items: [{ state: 'ready' }] } })
  t.match(heard(), [{ sha256: hash.digest('hex') }])
})
