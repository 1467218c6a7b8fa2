import { createHash, randomBytes, randomUUIDv7 } from 'node:crypto'
import type { Db } from '../../db/client.ts'
import {
  deleteClientSession,
  findClientSession,
  insertClientSession,
  insertTicket,
  livingClientSessions,
  redeemTicket,
  type SessionRow,
  touchClientSession,
} from '../../db/users.ts'

const SESSION_MS = 180 * 24 * 3_600_000
const TICKET_MS = 30_000
/** How exactly the last use is known: writing it down with each request would cost more than the request. */
const USED_TO_MS = 24 * 3_600_000

export type ClientSession = SessionRow

export interface Sessions {
  /** Opens a session inside `tx`. The token is shown once; the database keeps its hash. */
  open(tx: Db, userId: string, delivery: 'bearer' | 'cookie'): Promise<{ token: string; expiresAt: Date }>
  /** The session of a token, unless it is 180 days old or has not been used for 30. */
  find(token: string): Promise<ClientSession | undefined>
  /** Of these sessions, those that are still signed in. */
  living(sessionIds: string[]): Promise<Set<string>>
  close(sessionId: string): Promise<void>
  /** A ticket opens one WebSocket within 30 s, for clients that cannot send a header. */
  issueTicket(sessionId: string): Promise<{ ticket: string; expiresAt: Date }>
  redeem(ticket: string): Promise<ClientSession | undefined>
}

export function createSessions({ db }: { db: Db }): Sessions {
  return {
    async open(tx, userId, delivery) {
      const token = secret('rg_')
      const expiresAt = new Date(Date.now() + SESSION_MS)
      await insertClientSession(tx, {
        id: randomUUIDv7(),
        userId,
        tokenHash: hash(token),
        delivery,
        expiresAt,
      })
      return { token, expiresAt }
    },
    async find(token) {
      if (!/^rg_[\w-]{43}$/.test(token)) return undefined
      const session = await findClientSession(db, hash(token))
      if (session && Date.now() - session.usedAt.getTime() > USED_TO_MS)
        await touchClientSession(db, session.sessionId)
      return session
    },
    living: sessionIds => livingClientSessions(db, sessionIds),
    close: sessionId => deleteClientSession(db, sessionId),
    async issueTicket(sessionId) {
      const ticket = secret('rgt_')
      const expiresAt = new Date(Date.now() + TICKET_MS)
      await insertTicket(db, { ticketHash: hash(ticket), sessionId, expiresAt })
      return { ticket, expiresAt }
    },
    redeem: async ticket => (/^rgt_[\w-]{43}$/.test(ticket) ? redeemTicket(db, hash(ticket)) : undefined),
  }
}

const secret = (prefix: string) => prefix + randomBytes(32).toString('base64url')
const hash = (value: string) => createHash('sha256').update(value).digest()
