import { type AddressInfo, connect, type Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { limitConnections } from '../../src/routes/connections.ts'
import { until } from '../helpers/gateway.ts'

async function startServer(
  t: Test,
  perAddress: number,
  proxies: string[] | false = false,
  host = '127.0.0.1',
) {
  const app = Fastify()
  limitConnections(app, { perAddress, proxies })
  app.get('/', async () => 'served')
  await app.listen({ host, port: 0 })
  t.teardown(() => {
    app.server.closeAllConnections()
    return app.close()
  })
  return (app.server.address() as AddressInfo).port
}

/** Comes from one of this machine's many addresses, and asks for something. */
async function come(t: Test, port: number, from: string): Promise<Socket & { served: boolean }> {
  const socket = connect({ host: from.includes(':') ? '::1' : '127.0.0.1', port, localAddress: from })
  t.teardown(() => socket.destroy())
  const dropped = new Promise<false>(resolve =>
    socket.on('error', () => {}).on('close', () => resolve(false)),
  )
  const served = new Promise<true>(resolve => socket.once('data', () => resolve(true)))
  socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
  return Object.assign(socket, { served: await Promise.race([served, dropped]) })
}

const comeAll = (t: Test, port: number, from: string, count: number) =>
  Promise.all(Array.from({ length: count }, () => come(t, port, from)))
const served = (sockets: { served: boolean }[]) => sockets.filter(({ served }) => served).length

t.test('nobody alone takes all connections', async t => {
  const port = await startServer(t, 5)
  const first = await comeAll(t, port, '127.0.0.2', 12)
  t.equal(served(first), 5, 'five of one address, the others are dropped')
  t.equal((await come(t, port, '127.0.0.2')).served, false)
  t.equal(served(await comeAll(t, port, '127.0.0.3', 5)), 5, 'nobody else is in the way')

  for (const socket of first.filter(({ served }) => served).slice(0, 2)) socket.destroy()
  for (let i = 0; i < 2; i++) await until(async () => (await come(t, port, '127.0.0.2')).served)
  t.equal((await come(t, port, '127.0.0.2')).served, false, 'a place that was given back is one place')
})

t.test('a proxy that was named brings many clients', async t => {
  const port = await startServer(t, 2, ['127.0.0.4', '127.0.1.0/24'])
  t.equal(served(await comeAll(t, port, '127.0.0.4', 6)), 6)
  t.equal(served(await comeAll(t, port, '127.0.1.77', 6)), 6)
  t.equal(served(await comeAll(t, port, '127.0.0.5', 6)), 2)
  t.equal(served(await comeAll(t, await startServer(t, 2, ['loopback']), '127.9.9.9', 6)), 6)
  t.equal(served(await comeAll(t, await startServer(t, 2, ['uniquelocal']), '127.9.9.9', 6)), 2)
})

const noV6 = !Object.values(networkInterfaces()).some(all => all?.some(({ address }) => address === '::1'))
t.test('an address of either family, on a server of both', { skip: noV6 && 'no IPv6 here' }, async t => {
  const port = await startServer(t, 2, ['127.0.0.4'], '::')
  t.equal(served(await comeAll(t, port, '127.0.0.6', 6)), 2)
  t.equal(served(await comeAll(t, port, '127.0.0.4', 6)), 6, 'though it is seen as ::ffff:127.0.0.4')
  t.equal(served(await comeAll(t, port, '::1', 6)), 2)
})
