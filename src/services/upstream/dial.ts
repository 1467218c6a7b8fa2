import { lookup } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { buildConnector } from 'undici'
import { isPublic } from '../uploads/urls.ts'

/**
 * Connects to public addresses only. Where a file lies is the upstream's word, and a link or a redirect to
 * 169.254.169.254 would make us read what only our own network may read. The address that is checked is the one
 * that is dialled, so a name cannot resolve to another one in between.
 *
 * `apiUrl`'s own host is always allowed, and everything is when it is plain http: that is a development machine,
 * whose files lie on it too.
 */
export function createDialer(options: { apiUrl: string; timeoutMs: number }): buildConnector.connector {
  const api = new URL(options.apiUrl)
  const anywhere = buildConnector({ timeout: options.timeoutMs, allowH2: false })
  if (api.protocol === 'http:') return anywhere
  const publicOnly = buildConnector({ timeout: options.timeoutMs, allowH2: false, lookup: publicLookup })
  return (target, callback) => {
    const hostname = target.hostname.replace(/^\[|\]$/g, '')
    if (hostname === api.hostname) return anywhere(target, callback)
    // Node resolves no literals, so they never reach the lookup.
    if (isIP(hostname) !== 0 && !isPublic(hostname)) return callback(new Error('not a public address'), null)
    publicOnly(target, callback)
  }
}

const publicLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    const first = addresses?.[0]
    if (error) return callback(error, '')
    if (first === undefined || !addresses.every(({ address }) => isPublic(address))) {
      return callback(new Error('not a public address'), '')
    }
    if (options.all) callback(null, addresses)
    else callback(null, first.address, first.family)
  })
}
