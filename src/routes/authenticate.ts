import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify'
import { ProblemError } from '../problems.ts'
import type { ClientSession, Sessions } from '../services/users/sessions.ts'

declare module 'fastify' {
  interface FastifyRequest {
    session: ClientSession
    /** The kind of client app, from `X-Client-App`: the upstream's attribution. */
    platform: string
  }
  interface FastifyContextConfig {
    /** Who may call the route. A route without one fails at boot. */
    policy?: 'open' | 'optional' | 'signed-in' | 'ops'
  }
}

export const COOKIE = '__Host-reelgate'
const PLATFORMS = new Set(['web', 'ios', 'android'])
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS'])

/** Puts the one gate in front of every route: its policy decides, and a route that has none does not exist. */
export function addAuthentication(
  app: FastifyInstance,
  sessions: Sessions,
  { allowedOrigins, opsToken }: { allowedOrigins: string[]; opsToken: string | null },
) {
  app.decorateRequest('session', null as unknown as ClientSession)
  app.decorateRequest('platform', 'unknown')

  const routes: RouteOptions[] = []
  app.addHook('onRoute', route => {
    // A preflight carries no credential by design.
    if (route.method === 'OPTIONS') route.config = { ...route.config, policy: 'open' }
    routes.push(route)
  })
  app.addHook('onReady', async () => {
    for (const { config, method, url } of routes)
      if (!config?.policy) throw new Error(`${method} ${url} declares no policy`)
  })

  // After every onRequest hook: without the CORS headers a page could not read that it is signed out.
  app.addHook('preParsing', async request => {
    request.platform = platformOf(request.headers['x-client-app'])
    // No route at all: the not-found handler answers, signed in or not.
    if (request.is404 || request.routeOptions.config.policy === 'open') return
    if (request.routeOptions.config.policy === 'ops') return refuseOthers(request, opsToken)
    const session = await authenticate(request, sessions, allowedOrigins)
    if (!session && request.routeOptions.config.policy !== 'optional')
      throw new ProblemError('unauthenticated', 'Sign in, then send the token with the request.')
    if (session) request.session = session
  })
}

async function authenticate(request: FastifyRequest, sessions: Sessions, allowedOrigins: string[]) {
  const { token, fromCookie } = credentialOf(request)
  const session = token ? await sessions.find(token) : undefined
  if (session && fromCookie && !SAFE_METHODS.has(request.method)) refuseForgery(request, allowedOrigins)
  return session
}

/** Lets operators pass. Digests of one length are compared, so the time it takes tells nothing of the token. */
function refuseOthers(request: FastifyRequest, opsToken: string | null) {
  const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  if (opsToken === null || token === undefined || !timingSafeEqual(digest(token), digest(opsToken)))
    throw new ProblemError('unauthenticated', 'Send the operators’ token with the request.')
}

const digest = (text: string) => createHash('sha256').update(text).digest()

/** The credential that a request carries in a header or a cookie. */
export function credentialOf(request: FastifyRequest): { token: string | undefined; fromCookie: boolean } {
  const bearer = /^Bearer (\S{1,200})$/i.exec(request.headers.authorization ?? '')?.[1]
  return bearer ? { token: bearer, fromCookie: false } : { token: request.cookies[COOKIE], fromCookie: true }
}

/** A browser sends the cookie by itself, also for a page that is not ours; such a page cannot set our header. */
function refuseForgery(request: FastifyRequest, allowedOrigins: string[]) {
  if (request.headers['x-csrf'] !== '1')
    throw new ProblemError('csrf_required', 'With the cookie, send the header "X-CSRF: 1".')
  if (!isAllowedOrigin(request, allowedOrigins))
    throw new ProblemError('csrf_required', 'This origin is not among the allowed ones.')
  // Browsers name the origin of what changes something; one that does not still says whether it was another site.
  const { origin, 'sec-fetch-site': site } = request.headers
  if (origin === undefined && site !== undefined && site !== 'same-origin' && site !== 'none')
    throw new ProblemError('csrf_required', 'The request came from another site and names no origin.')
}

/** True when the request names no origin, our own, or a configured one. */
export function isAllowedOrigin(request: FastifyRequest, allowedOrigins: string[]): boolean {
  const { origin } = request.headers
  return (
    origin === undefined ||
    origin === `${request.protocol}://${request.host}` ||
    allowedOrigins.includes(origin)
  )
}

function platformOf(header: string | string[] | undefined): string {
  const name = String(header ?? '')
    .split('/')[0]!
    .toLowerCase()
  return PLATFORMS.has(name) ? name : 'unknown'
}
