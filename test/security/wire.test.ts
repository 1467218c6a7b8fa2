import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { signIn } from '../helpers/client.ts'
import { isType, openLive } from '../helpers/frames.ts'
import { until } from '../helpers/gateway.ts'
import { startProduction } from './production.ts'

const gateway = await startProduction(t, { CONNECTIONS_PER_ADDRESS: '50' })
const { url } = gateway
const client = await signIn(url)
const headers = { authorization: `Bearer ${client.token}` }
const { hostname, port } = new URL(url)
const HOST = `Host: ${hostname}:${port}\r\n`
const AUTH = `Authorization: Bearer ${client.token}\r\n`

/** Sends bytes as they are; resolves to everything that came back, and whether the server ended the connection. */
function send(t: Test, bytes: string, waitMs = 3_000): Promise<{ text: string; closed: boolean }> {
  const { promise, resolve } = Promise.withResolvers<{ text: string; closed: boolean }>()
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  let text = ''
  socket.on('data', chunk => {
    text += chunk
  })
  socket.on('error', () => {})
  socket.on('close', () => resolve({ text, closed: true }))
  setTimeout(() => resolve({ text, closed: false }), waitMs)
  socket.write(bytes, 'latin1')
  return promise
}
const answersIn = (text: string) => text.match(/^HTTP\/1\.1 \d+/gm) ?? []

t.test('a request that two readers could read differently ends the connection', async t => {
  const smuggled = `GET /v1/me HTTP/1.1\r\n${HOST}${AUTH}\r\n`
  const post = `POST /v1/projects HTTP/1.1\r\n${HOST}${AUTH}Content-Type: application/json\r\n`
  const attacks: Record<string, string> = {
    'CL and TE': `${post}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'two lengths': `${post}Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}${smuggled}`,
    'a length that is none': `${post}Content-Length: +2\r\n\r\n{}${smuggled}`,
    'lengths in a list': `${post}Content-Length: 2, 2\r\n\r\n{}${smuggled}`,
    xchunked: `${post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'chunked twice': `${post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
    'a space before the colon': `${post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'a folded line': `${post}Transfer-Encoding:\r\n chunked\r\nContent-Length: 2\r\n\r\n{}${smuggled}`,
    'a bare LF': `GET /v1/me HTTP/1.1\n${HOST.trim()}\n${AUTH.trim()}\n\n`,
    'a CR in the header': `GET /v1/me HTTP/1.1\r\n${HOST}${AUTH}X: a\rY: b\r\n\r\n`,
    '\\r\\n\\rX': `GET /v1/me HTTP/1.1\r\n${HOST}${AUTH}\r\n\rX${smuggled}`,
    'a chunk size that is none': `${post}Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n${smuggled}`,
    'an endless chunk size': `${post}Transfer-Encoding: chunked\r\n\r\n${'f'.repeat(20)}\r\n{}`,
    'no host': `GET /v1/me HTTP/1.1\r\n${AUTH}\r\n`,
    'a NUL': `GET /v1/me HTTP/1.1\r\n${HOST}X: a\0b\r\n\r\n`,
    'a NUL in the path': `GET /v1/\0me HTTP/1.1\r\n${HOST}\r\n`,
    'no HTTP': 'hello\r\n\r\n',
    TLS: `\x16\x03\x01\x02\x00\x01${randomBytes(100).toString('latin1')}`,
    'an unknown method': `STEAL /v1/me HTTP/1.1\r\n${HOST}\r\n`,
    'HTTP/9': `GET /v1/me HTTP/9.0\r\n${HOST}\r\n`,
    'headers of 40 KB': `GET /v1/me HTTP/1.1\r\n${HOST}X: ${'a'.repeat(40_000)}\r\n\r\n`,
  }
  await Promise.all(
    Object.entries(attacks).map(async ([what, bytes]) => {
      const { text, closed } = await send(t, bytes)
      t.ok(closed, `${what}: the connection ended`)
      t.notMatch(text, /HTTP\/1\.1 [25]\d\d/, what)
      t.ok(answersIn(text).length <= 1, `${what}: one answer at most`)
      t.notMatch(text, client.userId, `${what}: nothing was smuggled`)
      // Node refuses a request without a host by itself, and says nothing more.
      if (text && what !== 'no host')
        t.match(text, /application\/problem\+json[\s\S]*"code":"invalid_request"/, what)
    }),
  )
})

t.test('methods and addresses of other programs', async t => {
  const lines = [
    'TRACE /v1/me',
    'OPTIONS *',
    'PROPFIND /v1/projects',
    'GET //v1/me',
    'GET /v1/../ops/v1/overview',
    'GET /v1/%2e%2e/metrics',
    'GET /v1\\me',
    'GET http://evil.example/v1/me',
    'GET /metrics',
    'GET /ops/v1/overview',
    'GET /debug/pprof',
    'GET /.env',
    'GET /docs/../../package.json',
    'GET /docs/%2e%2e%2f%2e%2e%2fpackage.json',
  ]
  await Promise.all(
    lines.map(async line => {
      const { text } = await send(t, `${line} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`)
      const status = Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1])
      t.ok((status >= 400 && status < 500) || (line === 'OPTIONS *' && status === 204), `${line}: ${status}`)
      t.notMatch(text, /^(server|x-powered-by):/im)
      t.notMatch(text, /node_modules|devDependencies|\.ts:/)
    }),
  )
  const tunnel = await send(t, `CONNECT ${hostname}:${port} HTTP/1.1\r\n${HOST}\r\n`)
  t.notMatch(tunnel.text, /HTTP\/1\.1 2/)
})

t.test('what follows a refused upgrade or a body too large is not a request', async t => {
  const next = `GET /v1/me HTTP/1.1\r\n${HOST}${AUTH}\r\n`
  const upgrade =
    `GET /v1/live HTTP/1.1\r\n${HOST}Cookie: __Host-reelgate=${client.token}\r\nOrigin: https://evil.example\r\n` +
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
  const large = `POST /v1/projects HTTP/1.1\r\n${HOST}${AUTH}Content-Type: application/json\r\nContent-Length: 2000000\r\n\r\n`
  for (const [bytes, status] of [
    [upgrade + next, 403],
    [large + next, 413],
  ] as const) {
    const { text } = await send(t, bytes)
    t.match(answersIn(text), [`HTTP/1.1 ${status}`])
    t.equal(answersIn(text).length, 1)
    t.notMatch(text, client.userId)
  }
})

t.test(
  'a client that sends its headers a byte at a time is let go, one that says nothing yet is not',
  async t => {
    const slow = connect(Number(port), hostname)
    const silent = connect(Number(port), hostname)
    t.teardown(() => {
      slow.destroy()
      silent.destroy()
    })
    let text = ''
    slow.on('data', chunk => {
      text += chunk
    })
    slow.on('error', () => {})
    const since = Date.now()
    slow.write(`GET /v1/me HTTP/1.1\r\n${HOST}`)
    while (!slow.destroyed && Date.now() - since < 30_000) {
      slow.write('X-a: b\r\n')
      await sleep(200)
    }
    t.ok(Date.now() - since < 20_000, 'it ended within seconds')
    t.match(text, /^HTTP\/1\.1 408 [\s\S]*did not arrive in time/)
    silent.write(`GET /v1/me HTTP/1.1\r\n${HOST}${AUTH}Connection: close\r\n\r\n`)
    const [first] = await silent.toArray()
    t.match(String(first), /^HTTP\/1\.1 200/)
  },
)

/** A socket that is open, as bytes: ws would not send what is tested here. */
async function rawLive(t: Test) {
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  const chunks: Buffer[] = []
  socket.on('data', chunk => chunks.push(chunk))
  const closed = new Promise<Buffer>(resolve => socket.on('close', () => resolve(Buffer.concat(chunks))))
  socket.write(
    `GET /v1/live HTTP/1.1\r\n${HOST}${AUTH}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
  )
  while (!Buffer.concat(chunks).includes('"ready"')) await sleep(10)
  return { socket, chunks, closed }
}
/** The code in a close frame that the server sent last. */
const closeCode = (bytes: Buffer) => bytes.readUInt16BE(bytes.lastIndexOf(0x88) + 2)
const frame = (first: number, payload: Buffer, mask = true) => {
  const head =
    payload.length < 126
      ? Buffer.from([first, (mask ? 0x80 : 0) | payload.length])
      : Buffer.concat([Buffer.from([first, (mask ? 0x80 : 0) | 127]), bigEndian(payload.length)])
  return Buffer.concat(mask ? [head, Buffer.alloc(4), payload] : [head, payload])
}
function bigEndian(value: number) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

t.test('frames that are none', async t => {
  const ping = Buffer.from('{"type":"ping"}')
  const attacks: Record<string, [bytes: Buffer, codes: number[]]> = {
    'not masked': [frame(0x81, ping, false), [1002]],
    'a reserved bit': [frame(0xc1, ping), [1002]],
    'an unknown opcode': [frame(0x83, ping), [1002]],
    'no UTF-8': [frame(0x81, Buffer.from([0xff, 0xfe])), [1007]],
    'a frame of 100 MiB': [
      Buffer.concat([Buffer.from([0x81, 0xff]), bigEndian(100 * 2 ** 20), Buffer.alloc(4)]),
      [1009],
    ],
    'a frame of 16 MiB, of which one byte comes': [
      Buffer.concat([Buffer.from([0x81, 0xff]), bigEndian(16 * 2 ** 20), Buffer.alloc(5)]),
      [1009],
    ],
    'a frame of 2^62': [
      Buffer.concat([Buffer.from([0x81, 0xff]), bigEndian(2 ** 62), Buffer.alloc(4)]),
      [1009],
    ],
    'a control frame in pieces': [frame(0x09, ping), [1002]],
    'a long control frame': [frame(0x89, Buffer.alloc(126)), [1002]],
    'a continuation of nothing': [frame(0x80, ping), [1002]],
    'pieces without an end': [
      Buffer.concat([
        frame(0x01, Buffer.from('x')),
        ...Array.from({ length: 70_000 }, () => frame(0x00, Buffer.from('x'))),
      ]),
      [1009, 1008, 4501],
    ],
    'pieces of nothing without an end': [
      Buffer.concat([frame(0x01, Buffer.from('x')), ...Array(70_000).fill(frame(0x00, Buffer.alloc(0)))]),
      [1008],
    ],
    'a character cut in two, and never ended': [
      Buffer.concat([frame(0x01, Buffer.from([0xe2, 0x82])), frame(0x80, Buffer.from('x'))]),
      [1007],
    ],
    'a close code that is none': [frame(0x88, Buffer.from([0x03, 0xed])), [1002]],
    'a flood of pings': [Buffer.concat(Array(20_000).fill(frame(0x89, Buffer.alloc(125)))), [4013]],
    'a flood of pongs': [Buffer.concat(Array(20_000).fill(frame(0x8a, Buffer.alloc(125)))), [4013]],
    binary: [frame(0x82, ping), [4501]],
  }
  await Promise.all(
    Object.entries(attacks).map(async ([what, [bytes, codes]]) => {
      const { socket, closed } = await rawLive(t)
      socket.write(bytes)
      const code = closeCode(await closed)
      t.ok(codes.includes(code), `${what}: ${code}`)
    }),
  )
})

t.test('one address cannot take all connections', async t => {
  const ends = Array.from({ length: 60 }, () => {
    const socket = connect({ port: Number(port), host: hostname, localAddress: '127.0.0.9' })
    t.teardown(() => socket.destroy())
    socket.on('error', () => {})
    socket.write(`GET /healthz HTTP/1.1\r\n${HOST}\r\n`)
    const served = new Promise(resolve => socket.once('data', () => resolve('served')))
    return Promise.race([served, new Promise(resolve => socket.on('close', () => resolve('dropped')))])
  })
  const outcomes = await Promise.all(ends)
  t.equal(outcomes.filter(outcome => outcome === 'served').length, 50)
  t.equal((await client.get('/v1/me')).http.status, 200, 'others come in')
})

t.test('a frame may come byte by byte, a message in pieces of one byte, and a ping between them', async t => {
  const { socket, chunks } = await rawLive(t)
  const text = [...Buffer.from('{"type":"ping"}')]
  const pieces = text.map((byte, i) =>
    frame((i === 0 ? 0x01 : 0x00) | (i === text.length - 1 ? 0x80 : 0), Buffer.from([byte])),
  )
  pieces.splice(3, 0, frame(0x89, Buffer.from('still there?')))
  socket.setNoDelay(true)
  for (const byte of Buffer.concat(pieces)) {
    socket.write(Buffer.from([byte]))
    await new Promise(resolve => setImmediate(resolve))
  }
  await until(async () => Buffer.concat(chunks).includes('"pong"'))
  t.ok(Buffer.concat(chunks).includes('still there?'))
})

t.test('it all left the process well', async t => {
  t.equal(gateway.process.exitCode, null)
  const live = openLive(t, url, { headers })
  await live.send({ type: 'ping' })
  await live.next(isType('pong'))
  t.equal((await client.get('/v1/me')).http.status, 200)
  t.notMatch(gateway.output(), /"level":(50|60)/)
  t.notMatch(gateway.output(), client.token)
})
