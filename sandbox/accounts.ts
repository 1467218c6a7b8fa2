import { randomBytes } from 'node:crypto'
import type { Backend, Call, SignedCall } from './context.ts'
import { failure, invalid, json, type Reply, success } from './http.ts'
import { findSession } from './sessions.ts'
import type { Account, World } from './state.ts'

const WEEK_MS = 7 * 24 * 3600 * 1000

/** POST /api/auth/anonymous-token (§2.1): one live token per client id, `mintsPerIp` per address in 7 days. */
export function mint({ world, save, settings }: Backend, { req, entry }: Call): Reply {
  const clientId = req.headers['x-client-id']
  if (typeof clientId !== 'string' || clientId === '')
    return failure(400, 'X-Client-Id header is required', 400)
  if (clientId.length > 64) return failure(400, 'X-Client-Id is longer than 64 characters', 400)

  const now = Date.now()
  const ip = req.socket.remoteAddress ?? ''
  const known = world.accounts.find(account => account.clientId === clientId)
  if (known && isLive(known, now)) return tooMany('A token was already issued for this client')
  world.mints = world.mints.filter(one => one.at > now - WEEK_MS)
  if (world.mints.filter(one => one.ip === ip).length >= settings.mintsPerIp) {
    return tooMany('Too many tokens for this address')
  }

  entry.accepted = true
  world.mints.push({ ip, at: now })
  const fresh =
    known ?? addAccount(world, clientId, `anon_${randomBytes(8).toString('hex')}`, settings.credits)
  if (known && known.expiresAt <= now) fresh.credits = settings.credits
  Object.assign(fresh, { token: newToken(), expiresAt: now + WEEK_MS, revoked: false })
  entry.userId = fresh.userId
  save()
  return success({
    token: fresh.token,
    user_id: fresh.userId,
    expires_at: new Date(fresh.expiresAt).toISOString(),
    credits: fresh.credits,
    scopes: ['read', 'write', 'upload'],
  })
}

/** A registered account's token, as a person would bring one: nobody can mint it again. */
export function issueToken({ world, save, settings }: Backend, credits = settings.credits) {
  const account = addAccount(world, null, `user_${randomBytes(8).toString('hex')}`, credits)
  save()
  return { token: account.token, userId: account.userId }
}

/**
 * Another token for an account that there is: a guest's once it has registered (§2.3), or for one that was lost. The
 * one before is dead, and nobody can mint for the account any more.
 */
export function reissueToken({ world, save }: Backend, userId: string) {
  const account = world.accounts.find(one => one.userId === userId)
  if (!account) throw new TypeError(`no account is called ${userId}`)
  Object.assign(account, {
    clientId: null,
    token: newToken(),
    expiresAt: Date.now() + WEEK_MS,
    revoked: false,
  })
  save()
  return { token: account.token, userId }
}

/** The account of a Bearer token, or the envelope that refuses it: code 1001 under HTTP 200 (§5). */
export function authenticate({ world }: Backend, { req }: Call): Account | Reply {
  const token = /^Bearer (\S+)$/.exec(req.headers.authorization ?? '')?.[1]
  const account = world.accounts.find(one => one.token === token)
  if (!account) return failure(1001, 'invalid token')
  if (account.revoked) return failure(1001, 'token has been revoked')
  if (account.expiresAt <= Date.now()) return failure(1001, 'token has expired')
  return account
}

/** POST /api/auth/claim-token (§2.2) */
export function claim(backend: Backend, { body, entry, account }: SignedCall): Reply {
  if (typeof body?.task_id !== 'string') return invalid('task_id', 'Field required')
  if (typeof body.session_id !== 'string') return invalid('session_id', 'Field required')
  const session = findSession(backend, account, body.session_id)
  if (!session || session.taskId !== body.task_id) return failure(1002, 'session not found')
  entry.accepted = true
  return success({ claim_token: `clm_${randomBytes(12).toString('hex')}`, expires_in: 604800 })
}

/** GET /api/credits/balance/simple (§2.6) */
export function balance(backend: Backend, { entry, account }: SignedCall): Reply {
  entry.accepted = true
  const frozen = frozenCredits(backend, account)
  return success({ available: account.credits - frozen, frozen, total: account.credits })
}

/** Credits that running work has reserved. Call `settle` first where it matters. */
export function frozenCredits({ world }: Backend, account: Account): number {
  return Object.values(world.sessions)
    .filter(session => session.userId === account.userId)
    .flatMap(session => session.effects)
    .reduce((sum, effect) => sum + effect.cost, 0)
}

function addAccount(world: World, clientId: string | null, userId: string, credits: number): Account {
  const account = {
    clientId,
    userId,
    token: newToken(),
    expiresAt: Date.now() + WEEK_MS,
    revoked: false,
    credits,
  }
  world.accounts.push(account)
  return account
}

function isLive(account: Account, now: number) {
  return !account.revoked && account.expiresAt > now
}

function newToken() {
  return `nmv_usr_${randomBytes(24).toString('base64url')}`
}

function tooMany(message: string): Reply {
  const reply = json(429, { code: 429, message, data: null })
  return { ...reply, headers: { ...reply.headers, 'retry-after': '30' } }
}
