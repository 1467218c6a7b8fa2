import { hash as digest, randomBytes, randomUUIDv7 } from 'node:crypto'
import type { Db } from '../../db/client.ts'
import {
  deleteClientSession,
  findClientSessions,
  insertClientSession,
  insertTicket,
  livingClientSessions,
  redeemTicket,
  type SessionRow,
  touchClientSession,
} from '../../db/users.ts'
import { gather } from '../gather.ts'

const SESSION_MS = 180 * 24 * 3_600_000
const TICKET_MS = 30_000
/** How exactly the last use is known: writing it down with each request would cost more than the request. */
const USED_TO_MS = 24 * 3_600_000
/** When an instance goes down, thousands of sockets come to the next one at once. */
const GATHER_MS = 20

export type ClientSession = SessionRow

export interface Sessions {
  /** Opens a session inside `tx`. The token is shown once; the database keeps its hash. */
  open(tx: Db, userId: string, delivery: 'bearer' | 'cookie'): Promise<{ token: string; expiresAt: Date }>
  /**
   * The session of a token, unless it is 180 days old or has not been used for 30. Asked of the database each time:
   * one look for all requests of one turn of the event loop.
   */
  find(token: string): Promise<ClientSession | undefined>
  /** The same, in one look with all others who ask at that time: at most one look in 20 ms. */
  findTogether(token: string): Promise<ClientSession | undefined>
  /** Of these sessions, those that are still signed in. */
  living(sessionIds: string[]): Promise<Set<string>>
  close(sessionId: string): Promise<void>
  /** A ticket opens one WebSocket within 30 s, for clients that cannot send a header. */
  issueTicket(sessionId: string): Promise<{ ticket: string; expiresAt: Date }>
  redeem(ticket: string): Promise<ClientSession | undefined>
}

export function createSessions({ db }: { db: Db }): Sessions {
  async function findAll(hashes: Buffer[]) {
    const found = await findClientSessions(db, hashes)
    return hashes.map(hash => found.get(hash.toString('hex')))
  }
  const find = gather(0, findAll)
  const findLater = gather(GATHER_MS, findAll)

  async function used(session: ClientSession | undefined) {
    if (session && Date.now() - session.usedAt.getTime() > USED_TO_MS)
      await touchClientSession(db, session.sessionId)
    return session
  }

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
    find: async token => (isToken(token) ? used(await find(hash(token))) : undefined),
    findTogether: async token => (isToken(token) ? used(await findLater(hash(token))) : undefined),
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

const isToken = (token: string) => /^rg_[\w-]{43}$/.test(token)
const secret = (prefix: string) => prefix + randomBytes(32).toString('base64url')
const hash = (value: string) => digest('sha256', value, 'buffer')
