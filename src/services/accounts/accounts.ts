import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type AccountRow,
  ensureAccount,
  findAccount,
  findAccounts,
  giveAccount,
  keepGuestToken,
  linkToken,
  recordAccountReady,
  recordAccountTrouble,
  recordUpstreamUserId,
  storeToken,
  unlinkToken,
} from '../../db/accounts.ts'
import type { Db } from '../../db/client.ts'
import { budgetSpentUntil, claimMint, countUnknownMints, recordMint } from '../../db/mints.ts'
import { isDatabaseDown, type Problem, type ProblemCode, ProblemError } from '../../problems.ts'
import { gather } from '../gather.ts'
import type { Credential, UpstreamClient } from '../upstream/client.ts'
import { type Failure, mayHaveArrived, type Outcome } from '../upstream/failures.ts'
import { type Account, problemOf, userProblem } from '../user-states.ts'
import { type TokenVault, VaultError } from './token-vault.ts'

/** On whose behalf, and from which kind of app, a call is made. */
export interface Caller {
  userId: string
  platform: string
}

export interface Accounts {
  /**
   * Calls the upstream with the caller's token. A dead token is replaced once for everybody who noticed, and the
   * call, which was not accepted, is made once more. Never throws for what the upstream answers.
   */
  call<T>(caller: Caller, send: (credential: Credential) => Promise<Outcome<T>>): Promise<Outcome<T>>
  /** A failure in words for this user. */
  problem(failure: Failure, userId: string, language: string): Promise<Problem>
  /** The same for a problem whose code is known already. */
  userProblem(code: ProblemCode, userId: string, language: string): Promise<Problem>
  /** The value, or the failure as an error that a client is told of. */
  valueOrThrow<T>(outcome: Outcome<T>, userId: string, language: string): Promise<T>
  learnUpstreamUserId(userId: string, upstreamUserId: string): Promise<void>
  status(userId: string): Promise<UpstreamStatus>
  /**
   * Lets the user's own token serve this user from now on. Throws `invalid_request` when the upstream does not take
   * it, and changes nothing when the upstream cannot be asked.
   */
  link(caller: Caller, token: string, language: string): Promise<void>
  /** Back to the token that served the user before. */
  unlink(userId: string): Promise<void>
  /** Gives a user's upstream account to one that has none, sealed anew for its owner; false when that one has. */
  handOver(tx: Db, fromUserId: string, toUserId: string): Promise<boolean>
}

export interface UpstreamStatus {
  kind: 'anonymous' | 'linked' | 'shared' | 'none'
  state: 'ready' | 'reauth_required' | 'rate_limited' | 'none'
  retryAt?: string
}

/** `refused`: the upstream would not take this token the last time. `shared`: it is nobody's to renew. */
type Held =
  | { kind: 'ok'; value: { token: string; generation: number; refused: boolean; shared?: true } }
  | Failure

const MINT_WAIT_MS = 20_000
const MAX_WAIT_IN_REQUEST_MS = 10_000
const STORE_WAIT_MS = 15_000
const HOUR_MS = 3_600_000

/** A usable upstream token for each user (upstream-contract §2.1, §5). */
export function createAccounts(options: {
  db: Db
  vault: TokenVault
  upstream: UpstreamClient
  sharedToken: string | null
  webUrl: string
  rateLimitRetryMs: number
  mintsPerWeek: number
  /** Hears of tokens that do not open: a key is missing, or somebody has been at the database. */
  onError?(error: unknown): void
  /** Hears of each call for which the upstream refused the shared token: only an operator has another. */
  onSharedRefused?(): void
}): Accounts {
  const { db, vault, upstream, sharedToken, webUrl, mintsPerWeek } = options
  const renewals = new Map<string, Promise<Held>>()
  const find = gather(0, (userIds: string[]) => findAccounts(db, userIds))
  const spentUntil = gather(0, async (userIds: string[]) => {
    const until = await budgetSpentUntil(db, mintsPerWeek)
    return userIds.map(() => until)
  })

  async function hold(caller: Caller): Promise<Held> {
    const account = await find(caller.userId)
    if (sharedToken && account?.kind !== 'linked')
      return { kind: 'ok', value: { token: sharedToken, generation: 0, refused: false, shared: true } }
    return account && isUsable(account) ? open(account) : renew(caller, account?.generation ?? 0)
  }

  function open(account: AccountRow): Held {
    const { sealedToken, userId, generation, state } = account
    try {
      const token = vault.open(sealedToken!, userId)
      return { kind: 'ok', value: { token, generation, refused: state === 'reauth_required' } }
    } catch (error) {
      if (!(error instanceof VaultError)) throw error
      options.onError?.(error)
      // Nothing is minted in its place: whoever can swap rows could have tokens made, and each is rationed.
      return error.code === 'unknown_key'
        ? { kind: 'transient', delivered: 'no', cause: 'unavailable' }
        : { kind: 'auth' }
    }
  }

  /** The token after `generation`. However many calls notice a dead token, this instance asks once. */
  function renew(caller: Caller, generation: number): Promise<Held> {
    const key = `${caller.userId}:${generation}`
    let renewal = renewals.get(key)
    if (!renewal) {
      renewal = renewOnce(caller, generation).finally(() => renewals.delete(key))
      renewals.set(key, renewal)
    }
    return renewal
  }

  async function renewOnce(caller: Caller, generation: number): Promise<Held> {
    // The client id is stored before the first call: a repeated mint with another one would burn a second quota.
    let account = await ensureAccount(db, caller.userId, randomUUID())
    for (const end = Date.now() + MINT_WAIT_MS; ; account = (await findAccount(db, caller.userId))!) {
      if (account.generation > generation && account.sealedToken) return open(account)
      if (account.kind === 'linked') {
        await recordAccountTrouble(db, caller.userId, generation, { state: 'reauth_required' })
        return { kind: 'auth' }
      }
      // One account that is refused whatever its token must not use up the tokens of all.
      if (account.state === 'reauth_required' && isUsable(account)) return { kind: 'auth' }
      const wait = account.retryAt ? account.retryAt.getTime() - Date.now() : 0
      if (account.state === 'rate_limited' && wait > 0) return { kind: 'rate_limited', retryAfterMs: wait }
      const budget = { perWeek: mintsPerWeek, renewal: account.sealedToken !== null }
      const claim = await claimMint(db, caller.userId, generation, budget)
      if (claim && 'spentUntil' in claim) return budgetSpent(claim.spentUntil)
      if (claim) return mint(caller, account, claim.id)
      if (Date.now() > end) return { kind: 'transient', delivered: 'no', cause: 'timeout' }
      await sleep(100)
    }
  }

  /** Asks for a token, which the row `mintId` says already, and writes down what came of it. */
  async function mint(caller: Caller, account: AccountRow, mintId: string): Promise<Held> {
    const { userId, platform } = caller
    const isFirst = account.sealedToken === null
    const ask = () => upstream.mintToken({ clientId: account.clientId, platform })
    let outcome = await ask()
    // A token that died early is asked for once; only the first one is worth waiting for.
    if (outcome.kind === 'rate_limited' && isFirst) {
      const wait = outcome.retryAfterMs ?? options.rateLimitRetryMs
      if (wait <= MAX_WAIT_IN_REQUEST_MS) {
        await sleep(wait)
        outcome = await ask()
      }
    }
    if (outcome.kind === 'ok') {
      const { token, userId: upstreamUserId, expiresAt } = outcome.value
      const minted = { sealedToken: vault.seal(token, userId), tokenExpiresAt: expiresAt }
      const stored = await keep(async () => {
        await recordMint(db, mintId, 'delivered')
        return storeToken(db, userId, account.generation, { ...minted, upstreamUserId })
      })
      if (stored) return { kind: 'ok', value: { token, generation: account.generation + 1, refused: false } }
      // The user has linked an account meanwhile, and that is what serves.
      await keep(() => keepGuestToken(db, userId, minted))
      return open((await findAccount(db, userId))!)
    }
    if (mayHaveArrived(outcome)) {
      // Another one would be a second of the same week. The same client id may get its token again, a little later.
      const unknown = await countUnknownMints(db, account.clientId)
      await rest(account, unknown > 1 ? HOUR_MS : options.rateLimitRetryMs)
      return outcome
    }
    await recordMint(db, mintId, 'refused')
    if (outcome.kind === 'rate_limited') {
      const retryAfterMs = outcome.retryAfterMs ?? (isFirst ? options.rateLimitRetryMs : HOUR_MS)
      await rest(account, retryAfterMs)
      return { kind: 'rate_limited', retryAfterMs }
    }
    await recordAccountTrouble(db, userId, account.generation, {})
    return outcome
  }

  /** Nobody asks for this account's token before then. */
  const rest = ({ userId, generation }: AccountRow, ms: number) =>
    recordAccountTrouble(db, userId, generation, {
      state: 'rate_limited',
      retryAt: new Date(Date.now() + ms),
    })

  async function describe(userId: string): Promise<Account> {
    const account = await findAccount(db, userId)
    if (sharedToken && account?.kind !== 'linked') return { kind: 'shared', upstreamUserId: null }
    return { kind: account?.kind ?? 'anonymous', upstreamUserId: account?.upstreamUserId ?? null }
  }

  const problem = async (failure: Failure, userId: string, language: string) =>
    problemOf(failure, await describe(userId), language, webUrl)

  async function valueOrThrow<T>(outcome: Outcome<T>, userId: string, language: string): Promise<T> {
    if (outcome.kind === 'ok') return outcome.value
    const { code, detail, retryAfterMs, userState } = await problem(outcome, userId, language)
    throw new ProblemError(code, detail, {
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      ...(userState ? { userState } : {}),
    })
  }

  return {
    problem,

    userProblem: async (code, userId, language) =>
      userProblem(code, await describe(userId), language, webUrl),

    async call(caller, send) {
      const held = await hold(caller)
      if (held.kind !== 'ok') return held
      const { token, generation, refused, shared } = held.value
      const outcome = await send({ token, platform: caller.platform })
      // Only a note: the next call makes it as well, and what the upstream did must not be lost over it.
      if (outcome.kind === 'ok' && refused)
        await recordAccountReady(db, caller.userId, generation).catch(() => {})
      if (outcome.kind === 'auth' && shared) options.onSharedRefused?.()
      if (outcome.kind !== 'auth' || shared) return outcome
      const renewed = await renew(caller, generation)
      if (renewed.kind !== 'ok') return renewed
      const again = await send({ token: renewed.value.token, platform: caller.platform })
      if (again.kind === 'auth')
        await recordAccountTrouble(db, caller.userId, renewed.value.generation, { state: 'reauth_required' })
      return again
    },

    valueOrThrow,

    async learnUpstreamUserId(userId, upstreamUserId) {
      if (!sharedToken) await recordUpstreamUserId(db, userId, upstreamUserId)
    },

    async handOver(tx, fromUserId, toUserId) {
      const account = await findAccount(tx, fromUserId)
      if (!account) return true
      if (await findAccount(tx, toUserId)) return false
      const { sealedToken } = account
      await giveAccount(tx, fromUserId, {
        userId: toUserId,
        sealedToken: sealedToken && vault.seal(vault.open(sealedToken, fromUserId), toUserId),
      })
      return true
    },

    async status(userId) {
      const account = await find(userId)
      if (sharedToken && account?.kind !== 'linked') return { kind: 'shared', state: 'ready' }
      if (!account?.sealedToken && account?.state !== 'rate_limited') {
        // A guest who has no token yet could not get one now: better told here than at the first message.
        const until = await spentUntil(userId)
        if (until)
          return { kind: account?.kind ?? 'none', state: 'rate_limited', retryAt: until.toISOString() }
      }
      if (!account) return { kind: 'none', state: 'none' }
      const { kind, state, retryAt } = account
      return {
        kind,
        state,
        ...(retryAt && state === 'rate_limited' ? { retryAt: retryAt.toISOString() } : {}),
      }
    },

    async link({ userId, platform }, token, language) {
      const outcome = await upstream.credits({ token, platform })
      if (outcome.kind === 'auth')
        throw new ProblemError('invalid_request', 'NemoVideo does not accept this token.')
      await valueOrThrow(outcome, userId, language)
      await linkToken(db, userId, { clientId: randomUUID(), sealedToken: vault.seal(token, userId) })
    },

    unlink: userId => unlinkToken(db, userId),
  }
}

const budgetSpent = (until: Date): Failure => ({
  kind: 'rate_limited',
  retryAfterMs: Math.max(0, until.getTime() - Date.now()),
  reason: 'mint_budget',
})

/** Minting is rationed: a database that is away for a moment must not cost the token. */
async function keep<T>(store: () => Promise<T>): Promise<T> {
  for (const end = Date.now() + STORE_WAIT_MS; ; await sleep(250)) {
    try {
      return await store()
    } catch (error) {
      if (!isDatabaseDown(error) || Date.now() > end) throw error
    }
  }
}

function isUsable(account: AccountRow): boolean {
  if (!account.sealedToken) return false
  return account.kind === 'linked' || !account.tokenExpiresAt || account.tokenExpiresAt.getTime() > Date.now()
}
