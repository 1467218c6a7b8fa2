import { BlockList, isIPv6, type Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { networkOf } from './limits.ts'

/** The names that `TRUST_PROXY` may hold instead of a network. */
const NAMED: Record<string, string[]> = {
  loopback: ['127.0.0.0/8', '::1/128'],
  linklocal: ['169.254.0.0/16', 'fe80::/10'],
  uniquelocal: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'],
}
const TELL_EVERY_MS = 60_000

/**
 * Drops a connection beyond the `perAddress` that its peer has open already: nobody alone takes all of them. A proxy
 * in front has one for each of many clients and counts them itself; those in `proxies` are not counted here.
 */
export function limitConnections(
  app: FastifyInstance,
  { perAddress, proxies }: { perAddress: number; proxies: string[] | false },
) {
  const isProxy = matcher(proxies || [])
  const open = new Map<string, number>()
  let toldAt = Number.NEGATIVE_INFINITY

  app.server.on('connection', (socket: Socket) => {
    const { remoteAddress } = socket
    if (remoteAddress === undefined || isProxy(remoteAddress)) return
    const address = networkOf(remoteAddress)
    const others = open.get(address) ?? 0
    if (others >= perAddress) {
      socket.resetAndDestroy()
      return tell()
    }
    open.set(address, others + 1)
    socket.once('close', () => {
      const left = open.get(address)! - 1
      if (left > 0) open.set(address, left)
      else open.delete(address)
    })
  })

  function tell() {
    if (performance.now() - toldAt < TELL_EVERY_MS) return
    toldAt = performance.now()
    app.log.warn(
      { perAddress },
      'an address has all the connections it may have (CONNECTIONS_PER_ADDRESS); a proxy belongs into TRUST_PROXY',
    )
  }
}

function matcher(networks: string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const network of networks.flatMap(name => NAMED[name] ?? name)) {
    const [address = '', bits] = network.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    list.addSubnet(address, Number(bits ?? (family === 'ipv6' ? 128 : 32)), family)
  }
  return address => list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
}
