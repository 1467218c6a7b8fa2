import { randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { insertProject } from '../../src/db/projects.ts'
import {
  abandonClaims,
  claimDue,
  endRender,
  nextDueInMs,
  releaseClaim,
  releaseClaims,
  renewClaim,
} from '../../src/db/render-claims.ts'
import { insertRender, requestCancel } from '../../src/db/renders.ts'
import { insertUser } from '../../src/db/users.ts'
import { testDatabase } from '../helpers/database.ts'

async function setRows(t: Parameters<typeof testDatabase>[0]) {
  const { database } = await testDatabase(t)
  const { db } = database
  const { id: userId } = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const project = await insertProject(db, { id: randomUUIDv7(), userId, name: 'Holiday', language: 'en' })
  const insert = () =>
    insertRender(db, {
      id: randomUUIDv7(),
      projectId: project.id,
      userId,
      platform: 'web',
      format: 'mp4',
      quality: 'high',
      revision: 1,
    })
  return { db, insert }
}

t.test('of claimants at the same moment each gets its own', async t => {
  const { db, insert } = await setRows(t)
  for (let i = 0; i < 30; i++) await insert()
  const batches = await Promise.all(Array.from({ length: 5 }, () => claimDue(db, 4, 60_000)))
  const ids = batches.flat().map(claim => claim.render.id)
  t.ok(batches.every(batch => batch.length <= 4))
  t.equal(new Set(ids).size, ids.length)
  t.equal(ids.length, 20)
  t.equal(new Set(batches.flat().map(claim => claim.render.lease)).size, 20)
  t.equal((await claimDue(db, 100, 60_000)).length, 10)
  t.equal((await claimDue(db, 100, 60_000)).length, 0)
})

t.test('a claim that has run out is another’s, and its writes are refused', async t => {
  const { db, insert } = await setRows(t)
  const { id } = await insert()
  const [first] = await claimDue(db, 1, 0)
  const [second] = await claimDue(db, 1, 60_000)
  t.equal(second!.render.id, id)
  t.not(first!.render.lease, second!.render.lease)

  t.equal(await renewClaim(db, first!, 60_000), undefined)
  t.equal(await releaseClaim(db, first!, 0, { progress: 50 }), undefined)
  t.equal(await endRender(db, first!, { state: 'failed' }), undefined)
  t.match(await releaseClaim(db, second!, 60_000, { polls: 1 }), { progress: 0, polls: 1, lease: null })
})

t.test('the end is final', async t => {
  const { db, insert } = await setRows(t)
  await insert()
  const [claim] = await claimDue(db, 1, 60_000)
  t.match(await endRender(db, claim!, { state: 'completed', progress: 100 }), {
    state: 'completed',
    nextPollAt: null,
    completedAt: Date,
  })
  t.equal(await endRender(db, claim!, { state: 'failed' }), undefined)
  t.equal(await nextDueInMs(db), null)
})

t.test('when the next is due', async t => {
  const { db, insert } = await setRows(t)
  t.equal(await nextDueInMs(db), null)
  await insert()
  t.equal(await nextDueInMs(db), 0)
  const [claim] = await claimDue(db, 1, 60_000)
  await releaseClaim(db, claim!, 5_000, {})
  const ms = (await nextDueInMs(db)) ?? 0
  t.ok(ms > 3_000 && ms <= 5_001, String(ms))
})

t.test('a cancellation that comes during a claim is seen right after it', async t => {
  const { db, insert } = await setRows(t)
  const { id } = await insert()
  const [claim] = await claimDue(db, 1, 60_000)
  await db.execute(sql`update renders set state = 'rendering' where id = ${id}`)
  await requestCancel(db, id)
  t.same(await claimDue(db, 1, 60_000), [], 'the claim holds')
  await releaseClaim(db, claim!, 60_000, {})
  const [again] = await claimDue(db, 1, 60_000)
  t.ok(again?.render.cancelRequestedAt)
  await releaseClaim(db, again!, 60_000, {})
  t.same(await claimDue(db, 1, 60_000), [], 'once seen, it is polled at the usual pace')
})

t.test('many claims are given back at once, each at its own time and only by who holds it', async t => {
  const { db, insert } = await setRows(t)
  for (let n = 0; n < 4; n++) await insert()
  const [soon, late, wished, lost] = (await claimDue(db, 4, 60_000)).map(({ render }) => render)
  await db.execute(sql`update renders set state = 'rendering'`)
  await requestCancel(db, wished!.id)
  await db.execute(sql`update renders set lease = gen_random_uuid() where id = ${lost!.id}`)
  const held = await releaseClaims(db, [
    { render: soon!, ms: 0, progress: 40 },
    { render: lost!, ms: 0, progress: null },
    { render: late!, ms: 60_000, progress: null },
    { render: wished!, ms: 60_000, progress: null },
  ])
  t.same(held.map(({ id }) => id).toSorted(), [soon!.id, late!.id, wished!.id].toSorted())
  t.same(
    held.toSorted((a, b) => b.progress - a.progress).map(({ progress }) => progress),
    [40, 0, 0],
  )
  const due = (await claimDue(db, 9, 60_000)).map(({ render }) => render)
  t.same(due.map(({ id }) => id).toSorted(), [soon!.id, wished!.id].toSorted())
  t.same(
    due.map(({ polls }) => polls),
    [1, 1],
  )
})

t.test('claims given back are due at once', async t => {
  const { db, insert } = await setRows(t)
  await insert()
  const [claim] = await claimDue(db, 1, 60_000)
  await abandonClaims(db, [])
  t.same(await claimDue(db, 1, 60_000), [])
  await abandonClaims(db, [claim!.render.lease!])
  t.equal((await claimDue(db, 1, 60_000)).length, 1)
})

t.test('looking for what is due does not read what has ended', async t => {
  const { db, insert } = await setRows(t)
  const { id, projectId, userId } = await insert()
  await db.execute(sql`
    insert into renders (id, project_id, user_id, platform, state, format, quality, revision)
    select gen_random_uuid(), ${projectId}, ${userId}, 'web', 'completed', 'mp4', 'high', 1 from generate_series(1, 5000)`)
  await db.execute(sql`analyze renders`)
  for (const query of [
    sql`explain select id from renders where next_poll_at <= now() order by next_poll_at limit 50 for update skip locked`,
    sql`explain select min(next_poll_at) from renders`,
  ]) {
    const { rows } = await db.execute<Record<string, string>>(query)
    t.match(JSON.stringify(rows), /renders_due/)
  }
  t.match(await claimDue(db, 50, 60_000), [{ render: { id } }])
})
