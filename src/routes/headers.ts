import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'

/** Answers are data: nothing in them is a page, is kept by a cache, runs a script or is framed. */
export const DATA_HEADERS = {
  'strict-transport-security': 'max-age=63072000; includeSubDomains',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  // For scanners and for browsers that do not know frame-ancestors.
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
}

/** The API reference is the one page: scripts beside it, one that stands in it, and it reads this API alone. */
const PAGE = {
  'content-security-policy': pagePolicy([]),
  'cache-control': 'no-cache',
}

function pagePolicy(scriptHashes: string[]) {
  return [
    "default-src 'none'",
    ["script-src 'self'", ...scriptHashes].join(' '),
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "worker-src 'self' blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
}

/** Tells browsers what an answer must never be used for. A route may set a header of its own instead. */
export function addSecurityHeaders(app: FastifyInstance) {
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(DATA_HEADERS)
    done()
  })
}

/** The same for the plugin that serves the API reference. Scripts in its page run by their hash, as it was sent. */
export function addPageHeaders(app: FastifyInstance) {
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(PAGE)
    done()
  })
  app.addHook<string>('onSend', async (_request, reply, payload) => {
    if (/^text\/html\b/.test(String(reply.getHeader('content-type'))))
      reply.header('content-security-policy', pagePolicy(scriptHashes(payload)))
    return payload
  })
}

function scriptHashes(html: string): string[] {
  const scripts = html.matchAll(/<script[^>]*>([\s\S]*?)<\/script>/g)
  return [...scripts]
    .filter(([, text]) => text)
    .map(([, text = '']) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`)
}
