import { lookup } from 'node:dns/promises'
import { BlockList, isIP } from 'node:net'

export type Resolve = (hostname: string) => Promise<{ address: string; family: number }[]>

const MAX_URL = 2048
const RESOLVE_MS = 3_000
/** '' is the scheme's own port. Any other would let a stranger knock at databases and mail servers through us. */
const PORTS = new Set(['', '80', '443', '8080', '8443'])
/** Names that only a private network knows, and the ones behind which clouds keep their credentials. */
const PRIVATE_NAME =
  /(^|\.)(localhost|localdomain|local|internal|intranet|private|corp|home|lan|arpa|onion|cluster)$/

/** Of IPv4, what the IANA registry does not call globally reachable, and one cloud's metadata address. */
const PRIVATE_V4 = blockList('ipv4', [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['168.63.129.16', 32],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
])
const GLOBAL_V6 = blockList('ipv6', [['2000::', 3]])
/** Within it: protocol assignments and Teredo, documentation, 6to4. Mapped and NAT64 addresses lie outside. */
const PRIVATE_V6 = blockList('ipv6', [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
])

/**
 * The address as the upstream may be given it, or null when it must not: not http or https, credentials, a port
 * that no web server has, an address or a name of a private network. Nothing is fetched. A name that resolves to
 * a private address is refused; one that does not resolve here is the upstream's to find.
 */
export async function allowedUrl(text: string, resolve: Resolve = resolveName): Promise<string | null> {
  const url = parseUrl(text)
  if (url === null) return null
  const hostname = url.hostname.replace(/\.$/, '')
  const literal = hostname.replace(/^\[|\]$/g, '')
  if (isIP(literal) !== 0) return isPublic(literal) ? url.href : null
  if (!hostname.includes('.') || PRIVATE_NAME.test(hostname)) return null
  const addresses = await resolve(hostname).catch(() => [])
  return addresses.every(({ address }) => isPublic(address)) ? url.href : null
}

/** True for an address that everybody can reach. */
export function isPublic(address: string): boolean {
  const family = isIP(address)
  if (family === 4) return !PRIVATE_V4.check(address, 'ipv4')
  return family === 6 && GLOBAL_V6.check(address, 'ipv6') && !PRIVATE_V6.check(address, 'ipv6')
}

/** WHATWG parsing turns every spelling of an address (hex, octal, one number, wide dots) into its plain one. */
function parseUrl(text: string): URL | null {
  // Where parsers disagree on what the host is, another than ours may find another one.
  if (text.length > MAX_URL || /[\s\\\p{Cc}]/u.test(text)) return null
  const url = URL.parse(text)
  if (url === null || !/^https?:\/\/[^/]/i.test(text) || !/^https?:$/.test(url.protocol)) return null
  if (url.username !== '' || url.password !== '' || url.hash.includes('@')) return null
  if (!PORTS.has(url.port)) return null
  url.hash = ''
  return url
}

/** Gives up after 3 s: a resolver that hangs must not hold the request. */
async function resolveName(hostname: string) {
  const { promise, resolve } = Promise.withResolvers<{ address: string; family: number }[]>()
  const timer = setTimeout(resolve, RESOLVE_MS, [])
  return Promise.race([lookup(hostname, { all: true }), promise]).finally(() => clearTimeout(timer))
}

function blockList(family: 'ipv4' | 'ipv6', subnets: [string, number][]): BlockList {
  const list = new BlockList()
  for (const [network, prefix] of subnets) list.addSubnet(network, prefix, family)
  return list
}
