import { createHash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t, { type Test } from 'tap'
import { createSessions } from '../../../src/services/users/sessions.ts'
import { createUsers } from '../../../src/services/users/users.ts'
import { fileDatabase } from '../accounts/stage.ts'

async function setStage(t: Test) {
  const { database } = await fileDatabase(t)
  const { db } = database
  const sessions = createSessions({ db })
  const users = createUsers({ db, sessions })
  const alice = await users.createGuest({ delivery: 'bearer', language: 'en' })
  const session = (await sessions.find(alice.token))!
  return { db, sessions, users, alice, session }
}

const hashOf = (secret: string) => createHash('sha256').update(secret).digest()

t.test('a session is found by its token, and only its hash is kept', async t => {
  const { db, alice, session } = await setStage(t)
  t.match(alice.token, /^rg_[\w-]{43}$/)
  t.match(session, { delivery: 'bearer', expiresAt: alice.expiresAt, user: { id: alice.user.id } })
  const days = (alice.expiresAt.getTime() - Date.now()) / 86_400_000
  t.ok(days > 179.9 && days <= 180)
  const { rows } = await db.execute(
    sql`select c::text as row, token_hash from client_sessions c where user_id = ${alice.user.id}`,
  )
  t.same(rows[0]!.token_hash, hashOf(alice.token))
  t.notMatch(rows[0]!.row, alice.token.slice(3))
})

t.test('what is no session', async t => {
  const { db, sessions, alice } = await setStage(t)
  const almost = alice.token.slice(0, -1) + (alice.token.endsWith('A') ? 'B' : 'A')
  const wrong = [
    '',
    'rg_',
    almost,
    alice.token.slice(3),
    `${alice.token} `,
    `${alice.token}\n`,
    '\0',
    'é'.repeat(46),
  ]
  for (const token of wrong) t.equal(await sessions.find(token), undefined, JSON.stringify(token))
  await db.execute(sql`update client_sessions set expires_at = now()`)
  t.equal(await sessions.find(alice.token), undefined, 'one that has run out')
})

t.test('of many who come at once, each finds their own session', async t => {
  const { db, sessions, users, alice, session } = await setStage(t)
  const guests = await Promise.all(
    Array.from({ length: 20 }, () => users.createGuest({ delivery: 'bearer', language: 'en' })),
  )
  const [gone, ended, ...others] = guests
  await sessions.close((await sessions.find(gone!.token))!.sessionId)
  await db.execute(
    sql`update client_sessions set used_at = now() - interval '31 days' where user_id = ${ended!.user.id}`,
  )
  const nobody = `rg_${'A'.repeat(43)}`
  const tokens = [alice, gone!, ended!, ...others, alice].map(({ token }) => token)
  const found = await Promise.all([nobody, 'rg_', ...tokens].map(token => sessions.findTogether(token)))
  t.same(
    found.map(each => each?.user.id),
    [
      ...[undefined, undefined, alice.user.id, undefined, undefined],
      ...others.map(({ user }) => user.id),
      alice.user.id,
    ],
  )
  t.same(found[2], session, 'as if it had come alone')
})

t.test('a session that has not been used for days is used again, however it is found', async t => {
  const { db, sessions, alice } = await setStage(t)
  for (const find of [sessions.find, sessions.findTogether]) {
    await db.execute(sql`update client_sessions set used_at = now() - interval '10 days'`)
    t.ok(await find(alice.token))
    t.ok(Date.now() - (await sessions.find(alice.token))!.usedAt.getTime() < 60_000)
  }
})

t.test('which of these are still signed in', async t => {
  const { db, sessions, users, session } = await setStage(t)
  const [bob, carol] = await Promise.all(
    [1, 2].map(async () => {
      const { token } = await users.createGuest({ delivery: 'cookie', language: 'zh' })
      return (await sessions.find(token))!.sessionId
    }),
  )
  await sessions.close(bob!)
  await db.execute(sql`update client_sessions set expires_at = now() where id = ${carol}`)
  t.same(await sessions.living([session.sessionId, bob!, carol!]), new Set([session.sessionId]))
  t.same(await sessions.living([]), new Set())
})

t.test('signing out ends one session and the tickets it gave out', async t => {
  const { db, sessions, alice, session } = await setStage(t)
  const second = await db.transaction(tx => sessions.open(tx, alice.user.id, 'cookie'))
  const { ticket } = await sessions.issueTicket(session.sessionId)
  await sessions.close(session.sessionId)
  t.equal(await sessions.find(alice.token), undefined)
  t.equal(await sessions.redeem(ticket), undefined)
  t.match(await sessions.find(second.token), { delivery: 'cookie', user: { id: alice.user.id } })
})

t.test('a ticket opens once, however many try at once', async t => {
  const { db, sessions, session } = await setStage(t)
  const { ticket, expiresAt } = await sessions.issueTicket(session.sessionId)
  t.match(ticket, /^rgt_[\w-]{43}$/)
  t.ok(expiresAt.getTime() > Date.now() + 29_000 && expiresAt.getTime() <= Date.now() + 30_000)
  const { rows } = await db.execute(
    sql`select ticket_hash from tickets where session_id = ${session.sessionId}`,
  )
  t.same(rows, [{ ticket_hash: hashOf(ticket) }])
  const redeemed = await Promise.all(Array.from({ length: 10 }, () => sessions.redeem(ticket)))
  t.same(
    redeemed.filter(Boolean).map(found => found!.sessionId),
    [session.sessionId],
  )
  t.equal(await sessions.redeem(ticket), undefined)
})

t.test('a ticket that came too late, or to nothing', async t => {
  const { db, sessions, alice, session } = await setStage(t)
  const late = await sessions.issueTicket(session.sessionId)
  await db.execute(sql`update tickets set expires_at = now() - interval '1 ms'`)
  t.equal(await sessions.redeem(late.ticket), undefined)
  const orphan = await sessions.issueTicket(session.sessionId)
  await db.execute(sql`update client_sessions set expires_at = now()`)
  t.equal(await sessions.redeem(orphan.ticket), undefined, 'its session has run out')
  for (const wrong of ['', 'rgt_', alice.token, late.ticket.slice(4)])
    t.equal(await sessions.redeem(wrong), undefined)
  t.equal(await sessions.find(orphan.ticket), undefined, 'a ticket is no session')
})
