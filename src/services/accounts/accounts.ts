import { setTimeout as sleep } from 'node:timers/promises'
import {
  type AccountRow,
  ensureAccount,
  findAccount,
  findAccounts,
  giveAccount,
  type Holder,
  linkToken,
  listAccounts,
  loadAccount,
  newestSessions,
  recordAccountReady,
  recordAccountTrouble,
  recordUpstreamUserId,
  storeToken,
  storeTokenOfAnother,
  unlinkTokens,
} from '../../db/accounts.ts'
import type { Db } from '../../db/client.ts'
import { budgetSpentUntil, claimMint, countUnknownMints, recordMint } from '../../db/mints.ts'
import { isDatabaseDown, type Problem, type ProblemCode, ProblemError } from '../../problems.ts'
import { gather } from '../gather.ts'
import type { Credential, UpstreamClient } from '../upstream/client.ts'
import { type Failure, mayHaveArrived, type Outcome } from '../upstream/failures.ts'
import { type Account, problemOf, userProblem } from '../user-states.ts'
import { type TokenVault, VaultError } from './token-vault.ts'

/** On whose behalf, in which of their accounts, and from which kind of app, a call is made. */
export interface Caller extends Holder {
  platform: string
}

export interface Accounts {
  /**
   * Calls the upstream with the caller's token, and tells which account it is of; null: the shared one. A dead token
   * is replaced once for everybody who noticed, and the call, which was not accepted, is made once more. Never throws
   * for what the upstream answers.
   */
  call<T>(
    caller: Caller,
    send: (credential: Credential, accountId: string | null) => Promise<Outcome<T>>,
  ): Promise<Outcome<T>>
  /** A failure in words for this user. */
  problem(failure: Failure, holder: Holder, language: string): Promise<Problem>
  /** The same for a problem whose code is known already. */
  userProblem(code: ProblemCode, holder: Holder, language: string): Promise<Problem>
  /** The value, or the failure as an error that a client is told of. */
  valueOrThrow<T>(outcome: Outcome<T>, holder: Holder, language: string): Promise<T>
  learnUpstreamUserId(accountId: string, upstreamUserId: string): Promise<void>
  status(holder: Holder): Promise<UpstreamStatus>
  /**
   * Lets the user's own token serve this user from now on; projects stay in the account that they live in. Throws
   * `invalid_request` when the upstream does not take it, and changes nothing when the upstream cannot be asked.
   */
  link(caller: Caller, token: string, language: string): Promise<void>
  /** Forgets every token that the user has linked. Projects that live there wait until it is linked again. */
  unlink(userId: string): Promise<void>
  /** Gives a user's upstream accounts to another, sealed anew for it. What serves that one goes on serving. */
  handOver(tx: Db, fromUserId: string, toUserId: string): Promise<void>
}

export interface UpstreamStatus {
  kind: 'anonymous' | 'linked' | 'shared' | 'none'
  state: 'ready' | 'reauth_required' | 'rate_limited' | 'none'
  retryAt?: string
}

/** `refused`: the upstream would not take this token the last time. */
type Held = Outcome<{ token: string; account: Named | null; refused: boolean }>
/** The account that a token is of. The shared one has no name: its token is nobody's to renew. */
type Named = Pick<AccountRow, 'id' | 'generation'>

const MINT_WAIT_MS = 20_000
const MAX_WAIT_IN_REQUEST_MS = 10_000
const STORE_WAIT_MS = 15_000
const HOUR_MS = 3_600_000
/** How many sessions of an account a new token is tried on: the upstream may have forgotten one. */
const SESSIONS_TRIED = 3

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
  const findAll = gather(0, (holders: Holder[]) => findAccounts(db, holders))
  const spentUntil = gather(0, async (userIds: string[]) => {
    const until = await budgetSpentUntil(db, mintsPerWeek)
    return userIds.map(() => until)
  })

  async function find(holder: Holder): Promise<AccountRow | 'shared' | undefined> {
    const account = await findAll(holder)
    if (!sharedToken || holder.accountId) return account
    return holder.accountId === undefined && account?.kind === 'linked' ? account : 'shared'
  }

  async function hold(caller: Caller): Promise<Held> {
    const account = await find(caller)
    if (account === 'shared')
      return { kind: 'ok', value: { token: sharedToken!, account: null, refused: false } }
    if (account) return isUsable(account) ? open(account) : replace(caller, account)
    // An account that is gone has no other in its place.
    return caller.accountId ? { kind: 'auth' } : replace(caller, await ensureAccount(db, caller.userId))
  }

  /** The account's next token, or that of the account which serves the caller by now. */
  async function replace(caller: Caller, account: Named): Promise<Held> {
    const renewed = await renew(caller, account)
    if (caller.accountId) return renewed
    const serving = await find(caller)
    return serving && serving !== 'shared' && serving.id !== account.id ? hold(caller) : renewed
  }

  function open(account: AccountRow): Held {
    const { sealedToken, userId, state } = account
    try {
      const token = vault.open(sealedToken!, userId)
      return { kind: 'ok', value: { token, account, refused: state === 'reauth_required' } }
    } catch (error) {
      if (!(error instanceof VaultError)) throw error
      options.onError?.(error)
      // Nothing is minted in its place: whoever can swap rows could have tokens made, and each is rationed.
      return error.code === 'unknown_key'
        ? { kind: 'transient', delivered: 'no', cause: 'unavailable' }
        : { kind: 'auth' }
    }
  }

  /** The account's next token. However many calls notice a dead token, this instance asks once. */
  function renew(caller: Caller, dead: Named): Promise<Held> {
    const key = `${dead.id}:${dead.generation}`
    let renewal = renewals.get(key)
    if (!renewal) {
      renewal = renewOnce(caller, dead).finally(() => renewals.delete(key))
      renewals.set(key, renewal)
    }
    return renewal
  }

  async function renewOnce(caller: Caller, { id, generation }: Named): Promise<Held> {
    for (const end = Date.now() + MINT_WAIT_MS; ; ) {
      const account = await loadAccount(db, id)
      if (!account) return { kind: 'auth' }
      if (account.generation > generation && account.sealedToken) return open(account)
      if (account.kind === 'linked') {
        await recordAccountTrouble(db, account, { state: 'reauth_required' })
        return { kind: 'auth' }
      }
      // One account that is refused whatever its token must not use up the tokens of all.
      if (account.state === 'reauth_required' && isUsable(account)) return { kind: 'auth' }
      const wait = account.retryAt ? account.retryAt.getTime() - Date.now() : 0
      if (account.state === 'rate_limited' && wait > 0) return { kind: 'rate_limited', retryAfterMs: wait }
      const budget = { perWeek: mintsPerWeek, renewal: account.sealedToken !== null }
      const claim = await claimMint(db, { id, generation }, budget)
      if (claim && 'spentUntil' in claim) return budgetSpent(claim.spentUntil)
      if (claim) return mint(caller, account, claim.id)
      if (Date.now() > end) return { kind: 'transient', delivered: 'no', cause: 'timeout' }
      await sleep(100)
    }
  }

  /** Asks for a token, which the row `mintId` says already, and writes down what came of it. */
  async function mint(caller: Caller, account: AccountRow, mintId: string): Promise<Held> {
    const { platform } = caller
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
      const isAnother = await isOfAnotherAccount({ token, platform }, account, upstreamUserId)
      const stored = await keep(async () => {
        await recordMint(db, mintId, 'delivered')
        // A guest may have joined an account meanwhile, and taken this one along.
        const { userId } = (await loadAccount(db, account.id)) ?? account
        const minted = { sealedToken: vault.seal(token, userId), tokenExpiresAt: expiresAt, upstreamUserId }
        const store = isAnother ? storeTokenOfAnother : storeToken
        return store(db, { ...account, userId }, minted)
      })
      if (stored && !isAnother) return { kind: 'ok', value: { token, account: stored, refused: false } }
      // Another token has taken its place meanwhile, or nobody but the user has one for it.
      const current = await loadAccount(db, account.id)
      return current?.sealedToken ? open(current) : { kind: 'auth' }
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
    await recordAccountTrouble(db, account, {})
    return outcome
  }

  /** Nobody asks for this account's token before then. */
  const rest = (account: AccountRow, ms: number) =>
    recordAccountTrouble(db, account, {
      state: 'rate_limited',
      retryAt: new Date(Date.now() + ms),
    })

  async function describe(holder: Holder): Promise<Account> {
    const account = await find(holder)
    if (account === 'shared') return { kind: 'shared', upstreamUserId: null }
    return { kind: account?.kind ?? 'anonymous', upstreamUserId: account?.upstreamUserId ?? null }
  }

  const problem = async (failure: Failure, holder: Holder, language: string) =>
    problemOf(failure, await describe(holder), language, webUrl)

  async function valueOrThrow<T>(outcome: Outcome<T>, holder: Holder, language: string): Promise<T> {
    if (outcome.kind === 'ok') return outcome.value
    const { code, detail, retryAfterMs, userState } = await problem(outcome, holder, language)
    throw new ProblemError(code, detail, {
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      ...(userState ? { userState } : {}),
    })
  }

  /**
   * Which of the user's accounts a token is of, as nothing upstream says so: the one whose sessions it opens. A guest
   * who has registered (upstream-contract §2.3) and an account whose token has changed are found that way.
   */
  async function accountOfToken(credential: Credential, userId: string): Promise<Outcome<string | null>> {
    for (const { accountId, sessionId } of await newestSessions(db, userId, SESSIONS_TRIED)) {
      const state = await upstream.state(credential, { sessionId })
      if (state.kind === 'ok') return { kind: 'ok', value: accountId }
      if (!NOT_ITS_SESSION.has(state.kind)) return state
    }
    return { kind: 'ok', value: null }
  }

  /** A guest who has registered is no guest any more: the same client id gets the token of a new one. */
  async function isOfAnotherAccount(
    credential: Credential,
    known: AccountRow,
    upstreamUserId: string | null,
  ) {
    if (!known.upstreamUserId || !upstreamUserId || known.upstreamUserId === upstreamUserId) return false
    const found = await accountOfToken(credential, known.userId)
    return found.kind === 'ok' && found.value === null
  }

  return {
    problem,

    userProblem: async (code, holder, language) =>
      userProblem(code, await describe(holder), language, webUrl),

    async call(caller, send) {
      const { platform } = caller
      const held = await hold(caller)
      if (held.kind !== 'ok') return held
      const { token, account, refused } = held.value
      const outcome = await send({ token, platform }, account?.id ?? null)
      if (outcome.kind === 'auth' && !account) options.onSharedRefused?.()
      if (!account) return outcome
      // Only a note: the next call makes it as well, and what the upstream did must not be lost over it.
      if (outcome.kind === 'ok' && refused) await recordAccountReady(db, account).catch(() => {})
      if (outcome.kind !== 'auth') return outcome
      const renewed = await replace(caller, account)
      if (renewed.kind !== 'ok') return renewed
      const next = renewed.value.account
      const again = await send({ token: renewed.value.token, platform }, next?.id ?? null)
      if (again.kind === 'auth' && next) await recordAccountTrouble(db, next, { state: 'reauth_required' })
      return again
    },

    valueOrThrow,

    learnUpstreamUserId: (accountId, upstreamUserId) => recordUpstreamUserId(db, accountId, upstreamUserId),

    async handOver(tx, fromUserId, toUserId) {
      const isServed = (await findAccount(tx, toUserId)) !== undefined
      for (const { id, sealedToken, serves } of await listAccounts(tx, fromUserId))
        await giveAccount(tx, id, {
          userId: toUserId,
          sealedToken: sealedToken && vault.seal(vault.open(sealedToken, fromUserId), toUserId),
          serves: serves && !isServed,
        })
    },

    async status(holder) {
      const account = await find(holder)
      if (account === 'shared') return { kind: 'shared', state: 'ready' }
      if (!account?.sealedToken && account?.kind !== 'linked' && account?.state !== 'rate_limited') {
        // A guest who has no token yet could not get one now: better told here than at the first message.
        const until = await spentUntil(holder.userId)
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
      await valueOrThrow(outcome, { userId }, language)
      const found = await accountOfToken({ token, platform }, userId)
      const accountId = await valueOrThrow(found, { userId }, language)
      await linkToken(db, userId, vault.seal(token, userId), accountId)
    },

    unlink: userId => unlinkTokens(db, userId),
  }
}

const NOT_ITS_SESSION: ReadonlySet<Failure['kind']> = new Set(['session', 'refused', 'rejected', 'not_found'])

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
