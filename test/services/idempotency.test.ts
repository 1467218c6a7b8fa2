import { randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t, { type Test } from 'tap'
import { sweepKeys } from '../../src/db/idempotency.ts'
import { insertUser } from '../../src/db/users.ts'
import { createIdempotency } from '../../src/services/idempotency.ts'
import { fileDatabase, problemOf } from './accounts/stage.ts'

const BODY = { text: 'Add a title' }
const ANSWER = { status: 202, headers: { location: '/v1/runs/1' }, body: '{"kind":"run"}' }

async function setStage(t: Test) {
  const { database } = await fileDatabase(t)
  const { db } = database
  const createUser = async () =>
    (await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })).id
  const request = { userId: await createUser(), route: 'POST /v1/projects', key: 'k1' }
  return { db, request, createUser, ...createIdempotency({ db }) }
}

t.test('the first answer is given again, whatever the route, the user or the key of others', async t => {
  const { begin, end, request, createUser } = await setStage(t)
  t.equal(await begin(request, BODY), null)
  await end(request, ANSWER)
  t.same(await begin(request, BODY), ANSWER)
  t.same(await begin(request, BODY), ANSWER)
  for (const other of [{ key: 'k2' }, { route: 'POST /v1/x' }, { userId: await createUser() }])
    t.equal(await begin({ ...request, ...other }, BODY), null, JSON.stringify(other))
})

t.test('another body under the same key', async t => {
  const { begin, end, request } = await setStage(t)
  await begin(request, BODY)
  const other = () => problemOf(begin(request, { text: 'Remove it' }))
  t.match(await other(), { code: 'idempotency_mismatch', status: 422 }, 'while the first runs')
  await end(request, ANSWER)
  t.match(await other(), { code: 'idempotency_mismatch' }, 'and after it')
  t.match(await problemOf(begin(request, undefined)), { code: 'idempotency_mismatch' }, 'none is another one')
})

t.test('of many at once one runs, the others are told to come back', async t => {
  const { begin, end, request } = await setStage(t)
  const attempts = Array.from({ length: 20 }, () =>
    begin(request, BODY).then(
      answer => (answer === null ? 'runs' : 'replayed'),
      error => error.problem,
    ),
  )
  const results = await Promise.all(attempts)
  t.equal(results.filter(result => result === 'runs').length, 1)
  for (const problem of results.filter(result => result !== 'runs'))
    t.match(problem, { code: 'idempotency_in_progress', status: 409, retryAfterMs: Number })
  await end(request, ANSWER)
  t.same(await begin(request, BODY), ANSWER)
})

t.test('an answer that says “not now” is not kept, one that says “no” is', async t => {
  const { begin, end, request } = await setStage(t)
  const answered = async (status: number) => {
    const one = { ...request, key: String(status) }
    await begin(one, BODY)
    await end(one, { ...ANSWER, status })
    return begin(one, BODY)
  }
  for (const status of [408, 409, 425, 429, 500, 502, 503, 504])
    t.equal(await answered(status), null, String(status))
  for (const status of [200, 201, 202, 400, 402, 403, 404, 413, 415, 422])
    t.match(await answered(status), { status })
})

t.test('a request whose process died may be made again after a minute, by one', async t => {
  const { begin, request, db } = await setStage(t)
  await begin(request, BODY)
  await db.execute(sql`update idempotency_keys set locked_until = locked_until - interval '59 seconds'`)
  t.match(await problemOf(begin(request, BODY)), { code: 'idempotency_in_progress' })
  await db.execute(sql`update idempotency_keys set locked_until = locked_until - interval '2 seconds'`)
  t.match(await problemOf(begin(request, { text: 'x' })), { code: 'idempotency_mismatch' })
  const again = await Promise.allSettled(Array.from({ length: 5 }, () => begin(request, BODY)))
  t.equal(again.filter(({ status }) => status === 'fulfilled').length, 1)
})

t.test('a day is kept', async t => {
  const { begin, end, request, db } = await setStage(t)
  await begin(request, BODY)
  await end(request, ANSWER)
  await db.execute(sql`update idempotency_keys set created_at = now() - interval '23 hours 59 minutes'`)
  await sweepKeys(db)
  t.same(await begin(request, BODY), ANSWER)
  await db.execute(sql`update idempotency_keys set created_at = now() - interval '24 hours 1 second'`)
  await sweepKeys(db)
  t.equal(await begin(request, BODY), null)
})

t.test('of a body only its hash is kept: a text may be private', async t => {
  const { begin, request, db } = await setStage(t)
  await begin(request, { text: 'canary' })
  const { rows } = await db.execute(
    sql`select k::text as row from idempotency_keys k where user_id = ${request.userId}`,
  )
  t.notMatch(rows[0]!.row, 'canary')
})
