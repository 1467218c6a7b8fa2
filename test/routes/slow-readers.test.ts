import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { dropSlowReaders } from '../../src/routes/slow-readers.ts'
import { until } from '../helpers/gateway.ts'

const CHUNK = Buffer.alloc(64 * 1024)
const CHUNKS = 400
let changes = 0

async function startServer(t: Test) {
  const app = Fastify({ keepAliveTimeout: 1 })
  dropSlowReaders(app, { everyMs: 300, bytes: 1_000 })
  app.get('/page', async () => 'read')
  app.get('/long-page', async () => 'x'.repeat(1_000_000))
  app.post('/change', async () => changes++)
  app.get('/film', async (_, reply) => reply.send(Readable.from(Array.from({ length: CHUNKS }, () => CHUNK))))
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return app
}

function open(t: Test, app: Awaited<ReturnType<typeof startServer>>, request: string) {
  const { port } = app.server.address() as AddressInfo
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  socket.write(request)
  return socket
}
const FILM = 'GET /film HTTP/1.0\r\n\r\n'

t.test('a reader that takes nothing more is let go', async t => {
  const app = await startServer(t)
  const [[socket]] = (await Promise.all([once(app.server, 'connection'), open(t, app, FILM)])) as [
    [Socket],
    Socket,
  ]
  await once(socket, 'close')
  t.pass('its connection ended')
})

t.test('one that is slow but reads gets all of it', async t => {
  const app = await startServer(t)
  let bytes = 0
  for await (const chunk of open(t, app, FILM)) {
    bytes += chunk.length
    await sleep(3)
  }
  t.ok(bytes > CHUNK.length * CHUNKS)
})

t.test('what the kernel keeps for a reader that does not read goes with its connection', async t => {
  const app = await startServer(t)
  const reader = open(t, app, 'GET /long-page HTTP/1.1\r\nhost: a\r\n\r\n')
  const [socket] = (await once(app.server, 'connection')) as [Socket]
  await once(socket, 'finish')
  t.equal(socket.writableLength, 0, 'all of it is the kernel’s')
  t.notOk(
    socket.destroyed,
    'the end was announced; what the client does will show whether it has read so far',
  )
  await once(socket, 'close')
  const failed = once(reader, 'error')
  reader.resume()
  t.match(await failed, [{ code: 'ECONNRESET' }])
})

t.test('a request that meets the end of its connection is not begun', async t => {
  const app = await startServer(t)
  const client = open(t, app, 'GET /page HTTP/1.1\r\nhost: a\r\n\r\n')
  const [socket] = (await once(app.server, 'connection')) as [Socket]
  await once(socket, 'finish')
  client.write('POST /change HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n')
  await once(socket, 'close')
  t.equal(changes, 0)
})

t.test('a client that closes when it is told to is not waited for', async t => {
  const app = await startServer(t)
  const client = open(t, app, 'GET /page HTTP/1.1\r\nhost: a\r\n\r\n')
  const [socket] = (await once(app.server, 'connection')) as [Socket]
  client.resume().once('end', () => client.end())
  const [hadError] = await once(client, 'close')
  t.notOk(hadError)
  await until(async () => socket.closed)
})
