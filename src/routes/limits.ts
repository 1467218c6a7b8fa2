import { isIPv6 } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../problems.ts'
import type { Budget, Limits, Standing } from '../services/limits.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What a call of the route uses up besides the budget of every call; `none`: not even that. */
    budget?: Exclude<Budget, 'address' | 'user'> | 'none'
  }
}

const BY_ADDRESS = new Set<string | undefined>(['guests', 'sign-ins', 'sockets'] satisfies Budget[])

/** Counts every request against its address. Before authentication, so that guessing is counted too. */
export function limitAddresses(app: FastifyInstance, limits: Limits) {
  app.addHook('preParsing', async (request, reply) => {
    const { budget } = request.routeOptions.config
    if (budget === 'none') return
    const address = networkOf(request.ip)
    await take('address', address, limits, reply, false)
    if (BY_ADDRESS.has(budget)) await take(budget as Budget, address, limits, reply)
  })
}

/** Counts the requests of a signed-in user, wherever they come from. After authentication. */
export function limitUsers(app: FastifyInstance, limits: Limits) {
  app.addHook('preParsing', async (request: FastifyRequest, reply) => {
    const userId = request.session?.user.id
    if (userId === undefined) return
    const { budget } = request.routeOptions.config
    await take('user', userId, limits, reply)
    if (budget && !BY_ADDRESS.has(budget)) await take(budget as Budget, userId, limits, reply)
  })
}

/** Takes one and tells what is left (draft-ietf-httpapi-ratelimit-headers-10), or refuses with `rate_limited`. */
async function take(budget: Budget, key: string, limits: Limits, reply: FastifyReply, tell = true) {
  const standing = await limits.take(budget, key)
  if (tell || standing.refused) tellStanding(reply, standing)
  if (standing.refused)
    throw new ProblemError('rate_limited', `The budget "${budget}" is used up for now.`, {
      retryAfterMs: standing.resetMs,
    })
}

function tellStanding(reply: FastifyReply, { budget, limit, windowMs, remaining, resetMs }: Standing) {
  addItem(reply, 'ratelimit-policy', `"${budget}";q=${limit};w=${windowMs / 1_000}`)
  addItem(reply, 'ratelimit', `"${budget}";r=${remaining};t=${Math.ceil(resetMs / 1_000)}`)
}

function addItem(reply: FastifyReply, header: string, item: string) {
  const before = reply.getHeader(header)
  reply.header(header, before === undefined ? item : `${before}, ${item}`)
}

/** Whoever has one IPv6 address has the 2^64 of its network. */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address
  const mapped = /^::ffff:([\d.]+)$/i.exec(address)?.[1]
  if (mapped) return mapped
  const [head = '', tail] = address.split('%')[0]!.split('::')
  const groups = head === '' ? [] : head.split(':')
  const missing = tail === undefined ? 0 : 8 - groups.length - (tail === '' ? 0 : tail.split(':').length)
  return `${[...groups, ...Array(missing).fill('0')].slice(0, 4).join(':')}::/64`
}
