import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { handleNotFound, sendProblem, toProblem } from '../problems.ts'

interface Address {
  pattern: RegExp
  methods: Set<string>
}

/** Answers what no route answers: 405 with `Allow` when the address has other methods, else 404. */
export function addNotFound(app: FastifyInstance) {
  const addresses = new Map<string, Address>()

  app.addHook('onRoute', ({ url, method }) => {
    const address = addresses.get(url) ?? { pattern: patternOf(url), methods: new Set() }
    addresses.set(url, address)
    for (const name of [method].flat()) address.methods.add(name)
  })

  app.setNotFoundHandler({ preHandler: [] }, (request: FastifyRequest, reply: FastifyReply) => {
    const path = request.url.split('?')[0]!
    const methods = [...addresses.values()]
      .filter(({ pattern }) => pattern.test(path))
      .map(a => [...a.methods])
    // A preflight is answered for every address, so it tells nothing.
    const allowed = [...new Set(methods.flat())].filter(method => method !== 'OPTIONS')
    if (allowed.length === 0) return handleNotFound(request, reply)
    reply.header('allow', allowed.join(', '))
    return sendProblem(request, reply, toProblem('method_not_allowed'))
  })
}

function patternOf(url: string): RegExp {
  const parts = url.split('/').map(part => {
    if (part === '*') return '.*'
    return part.startsWith(':') ? '[^/]+' : part.replaceAll('.', '\\.')
  })
  return new RegExp(`^${parts.join('/')}$`)
}
