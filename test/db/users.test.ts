import { randomBytes, randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t from 'tap'
import {
  findClientSessions,
  insertClientSession,
  insertTicket,
  insertUser,
  sweepExpired,
} from '../../src/db/users.ts'
import { testDatabase } from '../helpers/database.ts'

t.test('what has run out is swept, the rest stays, and a user takes everything along', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const { id: userId } = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const insert = async (ms: number) => {
    const expiresAt = new Date(Date.now() + ms)
    const session = {
      id: randomUUIDv7(),
      userId,
      tokenHash: randomBytes(32),
      delivery: 'bearer',
      expiresAt,
    } as const
    await insertClientSession(db, session)
    return session
  }
  const [living, dead] = [await insert(60_000), await insert(-1)]
  const ticketOf = async (sessionId: string, ms: number) => {
    await insertTicket(db, { ticketHash: randomBytes(32), sessionId, expiresAt: new Date(Date.now() + ms) })
  }
  await ticketOf(living.id, 60_000)
  await ticketOf(living.id, -1)
  await ticketOf(dead.id, 60_000)
  const counted = async () => {
    const { rows } = await db.execute(
      sql`select (select count(*)::int from client_sessions) as sessions, (select count(*)::int from tickets) as tickets`,
    )
    return rows[0]
  }
  const found = async () => [...(await findClientSessions(db, [dead.tokenHash, living.tokenHash])).values()]
  t.match(await found(), [{ sessionId: living.id, user: { id: userId } }])
  await sweepExpired(db)
  t.same(await counted(), { sessions: 1, tickets: 1 })
  t.match(await found(), [{ sessionId: living.id, user: { id: userId } }])

  await db.execute(sql`delete from users`)
  t.same(await counted(), { sessions: 0, tickets: 0 })
})

t.test('two sessions cannot have the same token', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const { id: userId } = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const tokenHash = randomBytes(32)
  const insert = () =>
    insertClientSession(db, {
      id: randomUUIDv7(),
      userId,
      tokenHash,
      delivery: 'bearer',
      expiresAt: new Date(),
    })
  await insert()
  await t.rejects(insert(), { cause: { code: '23505' } })
})
