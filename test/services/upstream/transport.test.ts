import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'
import t from 'tap'
import {
  type Call,
  createPools,
  deadline,
  readAnswer,
  send,
} from '../../../src/services/upstream/transport.ts'
import { closedPort, startOrigin } from './origin.ts'

function setup(t: { teardown(work: () => unknown): void }, origin: string) {
  const pools = createPools(origin)
  t.teardown(() => pools.close())
  const call = (more: Partial<Call> = {}): Call => ({
    ...{
      origin,
      path: '/x',
      method: 'POST',
      headers: {},
      body: '{"a":1}',
      signal: new AbortController().signal,
    },
    ...more,
  })
  return { pools, call }
}

/** A TCP server that hands over each connection; what it heard is counted. */
async function startTcp(t: { teardown(work: () => unknown): void }, onConnection: (socket: Socket) => void) {
  const sockets: Socket[] = []
  const server = createServer(socket => {
    sockets.push(socket)
    socket.on('error', () => {})
    onConnection(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sockets }
}

t.test('nothing was delivered: refused, unresolved, no handshake', async t => {
  const refused = setup(t, await closedPort())
  t.same(await send(refused.pools.once, refused.call()), {
    kind: 'transient',
    delivered: 'no',
    cause: 'unavailable',
  })

  const unresolved = setup(t, 'http://no-such-host.invalid')
  t.same(await send(unresolved.pools.once, unresolved.call()), {
    kind: 'transient',
    delivered: 'no',
    cause: 'unavailable',
  })

  const plain = await startTcp(t, socket => socket.on('data', () => socket.destroy()))
  const tls = setup(t, plain.url.replace('http:', 'https:'))
  t.same(await send(tls.pools.once, tls.call()), { kind: 'transient', delivered: 'no', cause: 'unavailable' })
})

t.test('nothing was delivered when the limit ends the wait for a connection', async t => {
  const silent = await startTcp(t, () => {})
  const { pools, call } = setup(t, silent.url.replace('http:', 'https:'))
  const { signal } = deadline(50)
  const begun = performance.now()
  const sent = await Promise.all([send(pools.once, call({ signal })), once(signal, 'abort')])
  t.same(sent[0], { kind: 'transient', delivered: 'no', cause: 'timeout' })
  t.ok(performance.now() - begun < 2000, 'and the answer does not wait for the connection to fail')
})

t.test('after the first byte it is unknown, and undici sends it once', async t => {
  for (const pool of ['read', 'once', 'stream', 'upload'] as const) {
    const hits: string[] = []
    const tcp = await startTcp(t, socket =>
      socket.on('data', data => {
        hits.push(data.toString())
        if (hits.join('').includes('{"a":1}')) socket.destroy()
      }),
    )
    const { pools, call } = setup(t, tcp.url)
    t.same(
      await send(pools[pool], call()),
      { kind: 'transient', delivered: 'unknown', cause: 'unavailable' },
      pool,
    )
    t.equal(tcp.sockets.length, 1, 'one connection')
    t.equal(hits.join('').match(/POST/g)?.length, 1, 'one request')
  }
})

t.test('a reset connection counts the same', async t => {
  const tcp = await startTcp(t, socket => socket.on('data', () => socket.resetAndDestroy()))
  const { pools, call } = setup(t, tcp.url)
  t.same(await send(pools.once, call()), { kind: 'transient', delivered: 'unknown', cause: 'unavailable' })
  t.equal(tcp.sockets.length, 1)
})

t.test('a kept connection that dies under a request: unknown, not sent again', async t => {
  let hits = 0
  const tcp = await startTcp(t, socket =>
    socket.on('data', () => {
      hits++
      if (hits === 1) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
      else socket.destroy()
    }),
  )
  const { pools, call } = setup(t, tcp.url)
  const get = call({ method: 'GET', body: '' })
  const first = await send(pools.read, get)
  t.equal(first.kind, 'reply')
  if (first.kind === 'reply') await first.reply.body.dump()
  // undici hands a connection on in the next turn of the loop.
  await new Promise(setImmediate)
  t.same(await send(pools.read, get), { kind: 'transient', delivered: 'unknown', cause: 'unavailable' })
  t.equal(hits, 2)
  t.equal(tcp.sockets.length, 1, 'it was the kept one')
})

t.test('what must not be sent twice gets a connection of its own', async t => {
  const origin = await startOrigin(t, (request, response) =>
    request.resume().on('end', () => response.end('{}')),
  )
  const { pools, call } = setup(t, origin.url)
  for (let i = 0; i < 3; i++) {
    const sent = await send(pools.once, call())
    if (sent.kind === 'reply') await sent.reply.body.dump()
  }
  t.equal(origin.connections(), 3)
})

t.test('the caller and the limit end a call that was sent', async t => {
  const origin = await startOrigin(t, () => {})
  const { pools, call } = setup(t, origin.url)
  const controller = new AbortController()
  const heard = once(origin.server, 'request')
  const sending = send(pools.once, call({ signal: controller.signal }))
  await heard
  controller.abort()
  t.same(await sending, { kind: 'aborted' })
  t.same(await send(pools.once, call({ signal: AbortSignal.abort() })), { kind: 'aborted' })

  const { signal } = deadline(300)
  const pending = send(pools.once, call({ signal }))
  const [outcome] = await Promise.all([pending, once(signal, 'abort')])
  t.same(outcome, { kind: 'transient', delivered: 'unknown', cause: 'timeout' })
})

t.test('compressed answers are refused unread, and none is asked for', async t => {
  let asked: unknown
  const origin = await startOrigin(t, (request, response) => {
    asked = request.headers['accept-encoding']
    response.setHeader('content-encoding', 'gzip')
    response.end('x')
  })
  const { pools, call } = setup(t, origin.url)
  t.same(await send(pools.once, call()), { kind: 'protocol', delivered: 'unknown' })
  t.equal(asked, 'identity')
})

t.test('a body is read up to its cap', async t => {
  const origin = await startOrigin(t, (request, response) => {
    if (request.url === '/announced') response.setHeader('content-length', 2000)
    response.write('x'.repeat(1000))
    if (request.url !== '/endless') response.end('x'.repeat(1000))
    else setInterval(() => response.write('x'.repeat(1000)), 1).unref()
  })
  const { pools, call } = setup(t, origin.url)
  const read = async (path: string, max: number) => {
    const { signal } = new AbortController()
    const sent = await send(pools.once, call({ path, signal }))
    return sent.kind === 'reply' ? readAnswer(sent.reply, max, signal) : sent
  }
  t.same(await read('/', 1999), { kind: 'protocol', delivered: 'unknown' })
  t.same(await read('/announced', 1999), { kind: 'protocol', delivered: 'unknown' })
  t.same(await read('/endless', 50_000), { kind: 'protocol', delivered: 'unknown' })
  const whole = await read('/', 2000)
  t.equal(whole.kind === 'answer' && whole.answer.body?.length, 2000)
})

t.test('a body that breaks off, or hangs', async t => {
  const origin = await startOrigin(t, (request, response) => {
    response.writeHead(200, { 'content-length': 100 })
    response.write('x')
    if (request.url === '/broken') setImmediate(() => response.destroy())
  })
  const { pools, call } = setup(t, origin.url)
  const read = async (path: string, signal: AbortSignal) => {
    const sent = await send(pools.once, call({ path, signal }))
    return sent.kind === 'reply' ? readAnswer(sent.reply, 1000, signal) : sent
  }
  const never = new AbortController().signal
  t.same(await read('/broken', never), { kind: 'transient', delivered: 'unknown', cause: 'unavailable' })
  const { signal } = deadline(300)
  const [hung] = await Promise.all([read('/hung', signal), once(signal, 'abort')])
  t.same(hung, { kind: 'transient', delivered: 'unknown', cause: 'timeout' })
})
