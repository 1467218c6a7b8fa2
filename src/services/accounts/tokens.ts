import { setTimeout as sleep } from 'node:timers/promises'
import { storeTokenOfAnother } from '../../db/account-links.ts'
import {
  type AccountRow,
  ensureAccount,
  findAccounts,
  type Holder,
  loadAccount,
  recordAccountTrouble,
  storeToken,
} from '../../db/accounts.ts'
import type { Db } from '../../db/client.ts'
import { claimMint, countUnknownMints, recordMint } from '../../db/mints.ts'
import { isDatabaseDown } from '../../problems.ts'
import { gather } from '../gather.ts'
import type { Credential, UpstreamClient } from '../upstream/client.ts'
import { type Failure, mayHaveArrived, type Outcome } from '../upstream/failures.ts'
import type { AccountOfToken } from './account-of-token.ts'
import { type TokenVault, VaultError } from './token-vault.ts'

/** On whose behalf, in which of their accounts, and from which kind of app, a call is made. */
export interface Caller extends Holder {
  platform: string
}

/** `refused`: the upstream would not take this token the last time. */
export type Held = Outcome<{ token: string; account: Named | null; refused: boolean }>
/** The account that a token is of. The shared one has no name: its token is nobody's to renew. */
export type Named = Pick<AccountRow, 'id' | 'generation'>

export interface Tokens {
  /** The account that is meant, undefined when there is none yet. */
  find(holder: Holder): Promise<AccountRow | 'shared' | undefined>
  /** A token for the caller, asked for when there is none that can be used. */
  hold(caller: Caller): Promise<Held>
  /** Another one after `account`'s was refused: its next, or that of the account which serves the caller by now. */
  replace(caller: Caller, account: Named): Promise<Held>
}

export interface TokensOptions {
  db: Db
  vault: TokenVault
  upstream: UpstreamClient
  accountOfToken: AccountOfToken
  sharedToken: string | null
  rateLimitRetryMs: number
  mintsPerWeek: number
  /** Hears of tokens that do not open: a key is missing, or somebody has been at the database. */
  onError?(error: unknown): void
}

const MINT_WAIT_MS = 20_000
const MAX_WAIT_IN_REQUEST_MS = 10_000
const STORE_WAIT_MS = 15_000
const HOUR_MS = 3_600_000

/** A usable token for each account: opened, or asked for once however many want it (upstream-contract §2.1). */
export function createTokens(options: TokensOptions): Tokens {
  const { db, vault, upstream, sharedToken, mintsPerWeek, accountOfToken } = options
  const renewals = new Map<string, Promise<Held>>()
  const findAll = gather(0, (holders: Holder[]) => findAccounts(db, holders))

  async function find(holder: Holder): Promise<AccountRow | 'shared' | undefined> {
    const account = await findAll(holder)
    if (!sharedToken || holder.accountId) return account
    return holder.accountId === undefined && account?.kind === 'linked' ? account : 'shared'
  }

  async function hold(caller: Caller): Promise<Held> {
    const found = await find(caller)
    if (found === 'shared')
      return { kind: 'ok', value: { token: sharedToken!, account: null, refused: false } }
    // An account that is gone has no other in its place.
    if (!found && caller.accountId) return { kind: 'auth' }
    // The client id is stored before the first call: a repeated mint with another one would burn a second quota.
    const account = found ?? (await ensureAccount(db, caller.userId))
    // Another instance may have made it meanwhile, with its token.
    return isUsable(account) ? open(account) : replace(caller, account)
  }

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

  return { find, hold, replace }
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
