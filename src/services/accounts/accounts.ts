import { giveAccount, linkToken, listAccounts, unlinkTokens } from '../../db/account-links.ts'
import {
  findAccount,
  type Holder,
  recordAccountReady,
  recordAccountTrouble,
  recordUpstreamUserId,
} from '../../db/accounts.ts'
import type { Db } from '../../db/client.ts'
import { budgetSpentUntil } from '../../db/mints.ts'
import { type Problem, type ProblemCode, ProblemError } from '../../problems.ts'
import { gather } from '../gather.ts'
import type { Credential } from '../upstream/client.ts'
import type { Failure, Outcome } from '../upstream/failures.ts'
import { type Account, problemOf, userProblem } from '../user-states.ts'
import { createAccountOfToken } from './account-of-token.ts'
import { type Caller, createTokens, type TokensOptions } from './tokens.ts'

export type { Caller } from './tokens.ts'

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

/** Users' accounts upstream: calls with a usable token, and what goes wrong in their words (upstream-contract §5). */
export function createAccounts(
  options: Omit<TokensOptions, 'accountOfToken'> & {
    webUrl: string
    /** Hears of each call for which the upstream refused the shared token: only an operator has another. */
    onSharedRefused?(): void
  },
): Accounts {
  const { db, vault, upstream, webUrl, mintsPerWeek } = options
  const accountOfToken = createAccountOfToken({ db, upstream })
  const { find, hold, replace } = createTokens({ ...options, accountOfToken })
  const spentUntil = gather(0, async (userIds: string[]) => {
    const until = await budgetSpentUntil(db, mintsPerWeek)
    return userIds.map(() => until)
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
