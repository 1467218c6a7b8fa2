import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { dropSlowReaders } from '../../src/routes/slow-readers.ts'

const CHUNK = Buffer.alloc(64 * 1024)
const CHUNKS = 400

async function startServer(t: Test) {
  const app = Fastify()
  dropSlowReaders(app, { everyMs: 300, bytes: 1_000 })
  app.get('/film', async (_, reply) => reply.send(Readable.from(Array.from({ length: CHUNKS }, () => CHUNK))))
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return app
}

function watch(t: Test, port: number) {
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  socket.write('GET /film HTTP/1.0\r\n\r\n')
  return socket
}

t.test('a reader that takes nothing more is let go', async t => {
  const app = await startServer(t)
  const [socket] = (await Promise.all([
    once(app.server, 'connection').then(([socket]) => socket),
    once(watch(t, (app.server.address() as AddressInfo).port), 'connect'),
  ])) as [import('node:net').Socket, unknown]
  await once(socket, 'close')
  t.pass('its connection ended')
})

t.test('one that is slow but reads gets all of it', async t => {
  const app = await startServer(t)
  const socket = watch(t, (app.server.address() as AddressInfo).port)
  let bytes = 0
  for await (const chunk of socket) {
    bytes += chunk.length
    await sleep(3)
  }
  t.ok(bytes > CHUNK.length * CHUNKS)
})
