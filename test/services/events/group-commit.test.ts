import { randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t, { type Test } from 'tap'
import { appendBatches, type Batch } from '../../../src/db/event-batches.ts'
import { readEvents } from '../../../src/db/events.ts'
import { insertProject, lockProject } from '../../../src/db/projects.ts'
import { insertRun, loadRun } from '../../../src/db/runs.ts'
import { insertUser } from '../../../src/db/users.ts'
import type { Entry } from '../../../src/services/events/event.ts'
import { createGroupCommit } from '../../../src/services/events/group-commit.ts'
import { testDatabase } from '../../helpers/database.ts'

/** Runs in projects of their own, and a group commit whose statements are counted. */
async function setStage(t: Test, count: number) {
  const { database } = await testDatabase(t)
  const { db, pool } = database
  const { id: userId } = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const runs = await Promise.all(
    Array.from({ length: count }, async () => {
      const { id: projectId } = await insertProject(db, {
        id: randomUUIDv7(),
        userId,
        name: 'P',
        language: 'en',
      })
      const id = randomUUIDv7()
      return insertRun(db, {
        id,
        projectId,
        userId,
        platform: 'web',
        text: 'Hi',
        state: 'running',
        attempt: 1,
      })
    }),
  )
  const groups: number[] = []
  const delivered: Entry[][] = []
  const write = createGroupCommit(
    (batches, wait) => {
      groups.push(batches.length)
      return appendBatches(pool, batches, wait)
    },
    entries => delivered.push(entries),
  )
  const batch = (i: number, number: number, chunks: string[], attempt = 1): Batch => {
    const { id: runId, projectId } = runs[i]!
    return { projectId, runId, attempt, number, openMessageId: `m${number}`, chunks }
  }
  return {
    db,
    runs,
    groups,
    delivered,
    write,
    batch,
    log: (i: number) => readEvents(db, runs[i]!.projectId, 0, 100),
  }
}

t.test('what comes in one turn is one statement, and each project has its own numbers', async t => {
  const { db, runs, groups, delivered, write, batch, log } = await setStage(t, 3)
  const held = await Promise.all([0, 1, 2].map(i => write(batch(i, 1, [`"a${i}"`, `"b${i}"`]))))
  t.strictSame([held, groups], [[true, true, true], [3]])
  const second = [write(batch(0, 2, ['"c0"'])), write(batch(2, 2, ['"c2"']))]
  t.strictSame(await Promise.all(second), [true, true])
  t.strictSame(groups, [3, 2])
  for (const i of [0, 1, 2]) {
    const entries = await log(i)
    t.strictSame(
      entries.map(({ seq, chunk, runId }) => [seq, chunk, runId]),
      [`"a${i}"`, `"b${i}"`, ...(i === 1 ? [] : [`"c${i}"`])].map((chunk, k) => [k + 1, chunk, runs[i]!.id]),
    )
    t.strictSame(
      delivered.flat().filter(({ runId }) => runId === runs[i]!.id),
      entries,
      'what is delivered is what is kept',
    )
  }
  t.match(await loadRun(db, runs[0]!.id), { logWrites: 2, openMessageId: 'm2' })
})

t.test('what comes during a commit goes with the next one', async t => {
  const { groups, write, batch, log } = await setStage(t, 2)
  const first = write(batch(0, 1, ['1']))
  while (groups.length === 0) await new Promise(setImmediate)
  const rest = [write(batch(1, 1, ['1'])), first.then(() => write(batch(0, 2, ['2'])))]
  await Promise.all(rest)
  t.strictSame(groups, [1, 2])
  t.match(await log(0), [{ seq: 1 }, { seq: 2 }])
})

t.test(
  'a run that lost its fence, a batch that was written before and a missing run do not touch the others',
  async t => {
    const { db, runs, groups, write, batch, log } = await setStage(t, 3)
    await write(batch(1, 1, ['"first"']))
    const nobody = { ...batch(0, 1, ['"x"']), runId: randomUUIDv7() }
    const held = await Promise.all([
      write(batch(0, 1, ['"stale"'], 0)),
      write(batch(1, 1, ['"again"'])),
      write(batch(2, 1, ['"well"'])),
      write(nobody),
    ])
    t.strictSame(held, [false, false, true, false])
    t.equal(groups[1], 4)
    t.strictSame([(await log(0)).length, (await log(1)).length, (await log(2)).length], [0, 1, 1])
    t.match(await loadRun(db, runs[0]!.id), { logWrites: 0 })
  },
)

t.test('a project that somebody holds is waited for without holding up the others', async t => {
  const { db, runs, write, batch, log } = await setStage(t, 2)
  let late: Promise<boolean> | undefined
  await db.transaction(async tx => {
    await lockProject(tx, runs[0]!.projectId)
    late = write(batch(0, 1, ['"late"']))
    t.ok(await write(batch(1, 1, ['"early"'])), 'while the lock is held')
    t.ok(await write(batch(1, 2, ['"again"'])))
    t.strictSame(await log(0), [])
  })
  t.ok(await late)
  t.match(await log(0), [{ seq: 1, chunk: '"late"' }])
})

t.test('what Postgres refuses is one batch’s trouble', async t => {
  const { db, runs, write, batch, log } = await setStage(t, 2)
  const [bad, good] = await Promise.allSettled([write(batch(0, 1, ['{bad'])), write(batch(1, 1, ['"good"']))])
  t.match([bad, good], [{ status: 'rejected' }, { status: 'fulfilled', value: true }])
  t.strictSame([(await log(0)).length, (await log(1)).length], [0, 1])
  t.match(await loadRun(db, runs[0]!.id), { logWrites: 0 })
  t.ok(await write(batch(0, 1, ['"better"'])))
})

t.test('runs of one project and rows that change beside them: no gap, no number twice', async t => {
  const { db, runs, write, batch, log } = await setStage(t, 4)
  const { projectId } = runs[0]!
  for (const run of runs)
    await db.execute(sql`update runs set project_id = ${projectId} where id = ${run.id}`)
  await Promise.all(
    runs.map(async (_, i) => {
      for (let n = 1; n <= 10; n++) t.ok(await write({ ...batch(i, n, [`${n}`, `${n}`]), projectId }))
    }),
  )
  const entries = await log(0)
  t.strictSame(
    entries.map(({ seq }) => seq),
    Array.from({ length: 80 }, (_, n) => n + 1),
  )
})

t.test('finds its rows by their ids, however many others there are', async t => {
  const { db, write, batch } = await setStage(t, 1)
  await db.execute(sql`
    with other as (insert into projects (id, user_id, name, language)
      select gen_random_uuid(), user_id, name, language from projects, generate_series(1, 3000) returning id)
    insert into runs (id, project_id, user_id, platform, text, state)
      select gen_random_uuid(), other.id, user_id, platform, text, 'completed' from runs, other`)
  await db.execute(sql`analyze projects, runs`)
  // From the sixth time on Postgres plans for any number of batches.
  for (let n = 1; n <= 8; n++) await write(batch(0, n, ['1']))
  const { rows } = await db.execute<{ 'QUERY PLAN': string }>(sql`explain execute append_batches('[]')`)
  const plan = rows.map(row => row['QUERY PLAN']).join('\n')
  t.match(plan, /Index Scan using runs_pkey/)
  t.notMatch(plan, /Seq Scan/)
})
