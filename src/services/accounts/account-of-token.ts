import { newestSessions } from '../../db/account-links.ts'
import type { Db } from '../../db/client.ts'
import type { Credential, UpstreamClient } from '../upstream/client.ts'
import type { Failure, Outcome } from '../upstream/failures.ts'

/** The id of the user's account that a token is of; null: of none that is known. */
export type AccountOfToken = (credential: Credential, userId: string) => Promise<Outcome<string | null>>

/** The upstream may have forgotten one. */
const SESSIONS_TRIED = 3
const NOT_ITS_SESSION: ReadonlySet<Failure['kind']> = new Set(['session', 'refused', 'rejected', 'not_found'])

/**
 * Nothing upstream says whose a token is, but a session opens for the account that made it alone. A guest who has
 * registered (upstream-contract §2.3) and an account whose token has changed are found that way.
 */
export function createAccountOfToken({ db, upstream }: { db: Db; upstream: UpstreamClient }): AccountOfToken {
  return async (credential, userId) => {
    for (const { accountId, sessionId } of await newestSessions(db, userId, SESSIONS_TRIED)) {
      const state = await upstream.state(credential, { sessionId })
      if (state.kind === 'ok') return { kind: 'ok', value: accountId }
      if (!NOT_ITS_SESSION.has(state.kind)) return state
    }
    return { kind: 'ok', value: null }
  }
}
