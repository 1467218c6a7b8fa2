import { and, eq, lt, sql } from 'drizzle-orm'
import { type Db, prepared } from './client.ts'
import { clientSessions, tickets, users } from './schema.ts'

export type UserRow = typeof users.$inferSelect
export interface SessionRow {
  sessionId: string
  delivery: 'bearer' | 'cookie'
  expiresAt: Date
  /** To the day. */
  usedAt: Date
  user: UserRow
}

export async function insertUser(
  db: Db,
  user: { id: string; kind: 'guest' | 'account'; language: string },
): Promise<UserRow> {
  const [row] = await db.insert(users).values(user).returning()
  return row!
}

export async function insertClientSession(
  db: Db,
  session: typeof clientSessions.$inferInsert,
): Promise<void> {
  await db.insert(clientSessions).values(session)
}

const sessionFields = {
  sessionId: clientSessions.id,
  delivery: clientSessions.delivery,
  expiresAt: clientSessions.expiresAt,
  usedAt: clientSessions.usedAt,
  user: users,
}

/** Neither past its end nor unused for too long. */
const isLiving = sql`${clientSessions.expiresAt} > now() and ${clientSessions.usedAt} > now() - interval '30 days'`

const sessionsByToken = prepared(db =>
  db
    .select({ tokenHash: clientSessions.tokenHash, ...sessionFields })
    .from(clientSessions)
    .innerJoin(users, eq(users.id, clientSessions.userId))
    .where(and(sql`${clientSessions.tokenHash} = any(${sql.placeholder('hashes')}::bytea[])`, isLiving))
    .prepare('find_client_sessions'),
)

/** The living sessions among many tokens, by the token's hash in hex. */
export async function findClientSessions(db: Db, hashes: Buffer[]): Promise<Map<string, SessionRow>> {
  const rows = await sessionsByToken(db).execute({ hashes })
  return new Map(rows.map(({ tokenHash, ...session }) => [tokenHash.toString('hex'), session]))
}

/** The session is in use: its idle time begins anew. */
export async function touchClientSession(db: Db, sessionId: string): Promise<void> {
  await db.update(clientSessions).set({ usedAt: sql`now()` }).where(eq(clientSessions.id, sessionId))
}

/** Of `sessionIds`, which have a reader open, those that are still signed in. Reading is using. */
export async function livingClientSessions(db: Db, sessionIds: string[]): Promise<Set<string>> {
  const { rows } = await db.execute<{ id: string }>(sql`
    with touched as (
      update client_sessions set used_at = now() where id = any(${sql.param(sessionIds)}::uuid[])
        and used_at between now() - interval '30 days' and now() - interval '1 day'
    )
    select id from client_sessions where id = any(${sql.param(sessionIds)}::uuid[]) and ${isLiving}`)
  return new Set(rows.map(row => row.id))
}

export async function deleteClientSession(db: Db, sessionId: string): Promise<void> {
  await db.delete(clientSessions).where(eq(clientSessions.id, sessionId))
}

export async function deleteClientSessionsOf(db: Db, userId: string): Promise<void> {
  await db.delete(clientSessions).where(eq(clientSessions.userId, userId))
}

export async function insertTicket(db: Db, ticket: typeof tickets.$inferInsert): Promise<void> {
  await db.insert(tickets).values(ticket)
}

/** Takes a ticket away for good and returns the session it stands for. Two takers cannot both have it. */
export async function redeemTicket(db: Db, ticketHash: Buffer): Promise<SessionRow | undefined> {
  const [ticket] = await db.delete(tickets).where(eq(tickets.ticketHash, ticketHash)).returning()
  if (!ticket || ticket.expiresAt.getTime() < Date.now()) return undefined
  const [row] = await db
    .select(sessionFields)
    .from(clientSessions)
    .innerJoin(users, eq(users.id, clientSessions.userId))
    .where(and(eq(clientSessions.id, ticket.sessionId), isLiving))
  return row
}

export async function sweepExpired(db: Db): Promise<void> {
  await db.delete(tickets).where(lt(tickets.expiresAt, sql`now()`))
  await db.delete(clientSessions).where(sql`not (${isLiving})`)
}
