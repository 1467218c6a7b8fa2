import { type Problem, type ProblemCode, toProblem, type UserState } from '../problems.ts'
import type { Failure } from './upstream/failures.ts'
import { languageOf, problemWords, words } from './words.ts'

/** The upstream account that a failure happened to. */
export interface Account {
  kind: 'anonymous' | 'linked' | 'shared'
  upstreamUserId: string | null
}

/** A failure of the upstream as a problem with words, and a way on, for the user (upstream-contract §5). */
export function problemOf(failure: Failure, account: Account, language: string, webUrl: string): Problem {
  const code = codeOf(failure, account)
  const retryAfterMs =
    failure.kind === 'rate_limited' && failure.retryAfterMs !== null ? failure.retryAfterMs : undefined
  if (failure.kind === 'rate_limited' && failure.reason === 'mint_budget')
    return guestsFull(language, failure.retryAfterMs ?? 0)
  return userProblem(code, account, language, webUrl, retryAfterMs)
}

/** No token is left for a new guest (upstream-contract §0.6): an account of their own needs none of ours. */
function guestsFull(language: string, retryAfterMs: number): Problem {
  const message = words[languageOf(language)].userStates.rate_limited_anonymous
  const retryAt = new Date(Date.now() + retryAfterMs).toISOString()
  const action = { kind: 'link_account', retryAt } as const
  return toProblem('rate_limited', message, {
    retryAfterMs,
    userState: { code: 'rate_limited', message, action },
  })
}

/** The same for a problem whose code is known already, such as an error inside a stream. */
export function userProblem(
  code: ProblemCode,
  account: Account,
  language: string,
  webUrl: string,
  retryAfterMs?: number,
): Problem {
  const registered = account.kind !== 'anonymous'
  const message = problemWords(languageOf(language), code, registered)
  if (!message) return toProblem(code)
  const action = actionOf(code, account, webUrl, retryAfterMs)
  const userState: UserState = { code, message, ...(action ? { action } : {}) }
  return toProblem(code, message, { userState, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })
}

function codeOf(failure: Failure, account: Account): ProblemCode {
  switch (failure.kind) {
    case 'auth':
      return account.kind === 'shared' ? 'upstream_unavailable' : 'reauth_required'
    case 'refused':
      return failure.code
    case 'rate_limited':
      return 'rate_limited'
    case 'transient':
      return failure.cause === 'timeout' ? 'upstream_timeout' : 'upstream_unavailable'
    default:
      return 'upstream_unavailable'
  }
}

function actionOf(
  code: ProblemCode,
  account: Account,
  webUrl: string,
  retryAfterMs = 30_000,
): UserState['action'] {
  switch (code) {
    case 'credits_exhausted':
      return account.kind === 'anonymous'
        ? { kind: 'register', url: registerLink(webUrl, account.upstreamUserId) }
        : { kind: 'top_up', url: `${webUrl}/pricing` }
    case 'upgrade_required':
      return { kind: 'upgrade', url: `${webUrl}/pricing` }
    case 'reauth_required':
      return { kind: 'link_account' }
    case 'rate_limited':
    case 'storage_full':
      return { kind: 'wait', retryAt: new Date(Date.now() + retryAfterMs).toISOString() }
    case 'upstream_unavailable':
    case 'upstream_timeout':
    case 'outcome_unknown':
    case 'upload_interrupted':
    case 'upload_gone':
    case 'request_timeout':
    case 'render_lost':
      return { kind: 'retry' }
    default:
      return undefined
  }
}

/** upstream-contract §2.3: registering with `bind` keeps what the guest has made. */
export function registerLink(webUrl: string, upstreamUserId: string | null): string {
  const link = new URL('/register', webUrl)
  if (upstreamUserId) link.searchParams.set('bind', upstreamUserId)
  return link.href
}
