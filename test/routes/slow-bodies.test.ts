import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { handleError } from '../../src/problems.ts'
import { refuseSlowBodies } from '../../src/routes/slow-bodies.ts'
import { until } from '../helpers/gateway.ts'

const EVERY_MS = 321

/** A server whose patience is short enough for a test. */
async function startServer(t: Test) {
  const app = Fastify()
  app.setErrorHandler(handleError)
  refuseSlowBodies(app, { wholeMs: 300, streamed: { everyMs: EVERY_MS, bytes: 1_000, wholeMs: 1_500 } })
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  app.post('/json', async () => ({ ok: true }))
  app.post('/refused', { onRequest: async (_, reply) => reply.code(401).send({}) }, async () => ({}))
  app.post('/stream', async request => {
    let bytes = 0
    for await (const chunk of request.raw) bytes += chunk.length
    return { bytes }
  })
  app.post('/unread', async request => {
    request.raw.on('readable', () => {})
    return {}
  })
  app.post('/busy', async request => {
    request.raw.pause()
    await sleep(1_000)
    let bytes = 0
    for await (const chunk of request.raw) bytes += chunk.length
    return { bytes }
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return (app.server.address() as AddressInfo).port
}

function open(t: Test, port: number, path: string, type: string, length: number, body: string) {
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  let text = ''
  socket.on('data', data => {
    text += data
  })
  socket.on('error', () => {})
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: ${type}\r\ncontent-length: ${length}\r\n\r\n${body}`,
  )
  return { socket, text: () => text, closed: new Promise(resolve => socket.on('close', resolve)) }
}

async function drip(socket: Socket, bytes: number) {
  while (!socket.destroyed) {
    socket.write('x'.repeat(bytes))
    await sleep(20)
  }
}

t.test('a JSON body that does not come is answered, then the connection ends', async t => {
  const { socket, text, closed } = open(t, await startServer(t), '/json', 'application/json', 9_000, '{')
  drip(socket, 1)
  await closed
  t.match(text(), /^HTTP\/1.1 408 [\s\S]*connection: close[\s\S]*did not arrive in time/i)
})

t.test('one that nobody waits for is cut', async t => {
  const { socket, text, closed } = open(t, await startServer(t), '/refused', 'application/json', 9_000, '{')
  drip(socket, 1)
  await closed
  t.match(text(), /^HTTP\/1.1 401/)
})

t.test('a streamed body may take its time, as long as it moves', async t => {
  const port = await startServer(t)
  const slow = open(t, port, '/stream', 'video/mp4', 1_000_000, 'x')
  drip(slow.socket, 1)
  await slow.closed
  t.match(slow.text(), /^HTTP\/1.1 408 [\s\S]*did not arrive in time/, 'a byte at a time is not enough')

  const steady = open(t, port, '/stream', 'video/mp4', 100_000, '')
  const chunks = 40
  for (let i = 0; i < chunks; i++) {
    steady.socket.write('x'.repeat(100_000 / chunks))
    await sleep(25)
  }
  await until(async () => steady.text().includes('"bytes":100000'))
})

t.test('a client is not blamed for bytes that wait here', async t => {
  const waiting = open(t, await startServer(t), '/busy', 'video/mp4', 200_000, 'x'.repeat(100_000))
  await sleep(900)
  waiting.socket.write('x'.repeat(100_000))
  await until(async () => waiting.text().includes('"bytes":200000'))
})

t.test('nor may it take for ever', async t => {
  const steady = open(t, await startServer(t), '/stream', 'video/mp4', 100_000_000, '')
  drip(steady.socket, 10_000)
  await steady.closed
  t.match(steady.text(), /^HTTP\/1.1 408 [\s\S]*did not arrive in time/)
})

t.test('a body that has come is watched no longer, whether or not anybody reads it', async t => {
  const { setInterval } = globalThis
  const watches: NodeJS.Timeout[] = []
  t.intercept(globalThis, 'setInterval', {
    value(work: () => void, ms: number) {
      const timer = setInterval(work, ms)
      if (ms === EVERY_MS) watches.push(timer)
      return timer
    },
  })
  const { text } = open(t, await startServer(t), '/unread', 'video/mp4', 5, 'bytes')
  await until(async () => text().startsWith('HTTP/1.1 200'))
  t.equal(watches.length, 1)
  await until(async () => Reflect.get(watches[0]!, '_destroyed'))
})
