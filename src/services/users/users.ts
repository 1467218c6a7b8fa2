import { randomUUIDv7 } from 'node:crypto'
import type { Db } from '../../db/client.ts'
import { insertUser, type UserRow } from '../../db/users.ts'
import type { Sessions } from './sessions.ts'

/** A user as clients see it. */
export interface User {
  id: string
  kind: 'guest' | 'account'
  language: string
  createdAt: string
  email?: string
}

export interface Users {
  /** Makes a guest and signs it in. The upstream account is acquired when it is first needed, not here. */
  createGuest(a: {
    delivery: 'bearer' | 'cookie'
    language: string
  }): Promise<{ user: User; token: string; expiresAt: Date }>
}

export function createUsers({ db, sessions }: { db: Db; sessions: Sessions }): Users {
  return {
    createGuest: ({ delivery, language }) =>
      db.transaction(async tx => {
        const user = await insertUser(tx, { id: randomUUIDv7(), kind: 'guest', language })
        const { token, expiresAt } = await sessions.open(tx, user.id, delivery)
        return { user: toUser(user), token, expiresAt }
      }),
  }
}

export function toUser(row: UserRow): User {
  const { id, kind, language, createdAt, email } = row
  return { id, kind, language, createdAt: createdAt.toISOString(), ...(email ? { email } : {}) }
}
