import { randomUUIDv7 } from 'node:crypto'
import type { Db } from '../../db/client.ts'
import {
  deleteUser,
  findUserByIdentity,
  giveEverything,
  hasUnfinishedWork,
  insertIdentity,
  lockGuest,
  lockIdentity,
  turnIntoAccount,
} from '../../db/identities.ts'
import { deleteClientSession, deleteClientSessionsOf, insertUser, type UserRow } from '../../db/users.ts'
import { notFound, ProblemError } from '../../problems.ts'
import type { Accounts } from '../accounts/accounts.ts'
import type { Claims, IdTokens } from './id-tokens.ts'
import type { ClientSession, Sessions } from './sessions.ts'
import { toUser, type User } from './users.ts'

export interface SignIn {
  /**
   * Exchanges an ID token for a session, which replaces the caller's. A guest who calls becomes the account: with the
   * first sign-in by keeping its id, later by giving its projects to the account. Throws `not_found` when no issuer is
   * configured, `project_busy` while work of such a guest is under way.
   */
  withIdToken(a: {
    idToken: string
    nonce?: string
    delivery: 'bearer' | 'cookie'
    language: string
    caller: ClientSession | null
  }): Promise<{ user: User; token: string; expiresAt: Date }>
}

export function createSignIn(options: {
  db: Db
  sessions: Sessions
  accounts: Pick<Accounts, 'handOver'>
  idTokens: IdTokens | null
}): SignIn {
  const { db, sessions, accounts, idTokens } = options

  return {
    async withIdToken({ idToken, nonce, delivery, language, caller }) {
      if (!idTokens) throw notFound()
      const claims = await idTokens.verify(idToken, nonce)
      return db.transaction(async tx => {
        await lockIdentity(tx, claims)
        const guest = caller ? await lockGuest(tx, caller.user.id) : undefined
        const user = await accountOf(tx, claims, guest, language)
        // Whoever knew the old credential does not know the new one.
        if (guest) await deleteClientSessionsOf(tx, guest.id)
        else if (caller) await deleteClientSession(tx, caller.sessionId)
        const { token, expiresAt } = await sessions.open(tx, user.id, delivery)
        return { user: toUser(user), token, expiresAt }
      })
    },
  }

  async function accountOf(tx: Db, claims: Claims, guest: UserRow | undefined, language: string) {
    const account = await findUserByIdentity(tx, claims)
    if (account && guest) await merge(tx, guest, account)
    if (account) return turnIntoAccount(tx, account.id, claims.email ?? account.email)
    const { id } = guest ?? (await insertUser(tx, { id: randomUUIDv7(), kind: 'account', language }))
    await insertIdentity(tx, { ...claims, userId: id })
    return turnIntoAccount(tx, id, claims.email)
  }

  async function merge(tx: Db, guest: UserRow, account: UserRow) {
    if (await hasUnfinishedWork(tx, guest.id))
      throw new ProblemError(
        'project_busy',
        'An edit, an export or an upload of this guest is still under way. Sign in when it has ended.',
        { retryAfterMs: 5_000 },
      )
    await accounts.handOver(tx, guest.id, account.id)
    await giveEverything(tx, guest.id, account.id)
    await deleteUser(tx, guest.id)
  }
}
