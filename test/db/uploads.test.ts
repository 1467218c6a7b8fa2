import { randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { insertProject } from '../../src/db/projects.ts'
import {
  failSilent,
  finishUpload,
  insertUpload,
  recordForwarded,
  silentUploads,
} from '../../src/db/uploads.ts'
import { insertUser } from '../../src/db/users.ts'
import { toProblem } from '../../src/problems.ts'
import { testDatabase } from '../helpers/database.ts'

const problem = toProblem('upload_interrupted')

async function setStage(t: Parameters<typeof testDatabase>[0]) {
  const { db } = (await testDatabase(t)).database
  const user = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const project = await insertProject(db, {
    id: randomUUIDv7(),
    userId: user.id,
    name: 'Holiday',
    language: 'en',
  })
  const upload = (state: 'receiving' | 'forwarding' | 'ready' | 'failed') =>
    insertUpload(db, { id: randomUUIDv7(), projectId: project.id, userId: user.id, state, filename: 'a.mp4' })
  const age = (id: string, ms: number) =>
    db.execute(sql`update uploads set updated_at = now() - ${ms} * interval '1 millisecond' where id = ${id}`)
  return { db, upload, age }
}

t.test('an end is final, and nothing is told after it', async t => {
  const { db, upload } = await setStage(t)
  const { id } = await upload('forwarding')
  t.match(await recordForwarded(db, id, 5_000_000_000), {
    bytesForwarded: 5_000_000_000,
    state: 'forwarding',
  })
  const ready = { state: 'ready', media: { kind: 'video' }, bytes: 10, bytesForwarded: 10 } as const
  t.match(await finishUpload(db, id, ready), ready)
  t.equal(await finishUpload(db, id, { state: 'failed', problem, bytesForwarded: 0 }), undefined)
  t.equal(await recordForwarded(db, id, 11), undefined)
  t.equal(await failSilent(db, id, 0, problem), undefined)
})

t.test('only what is under way and silent is swept', async t => {
  const { db, upload, age } = await setStage(t)
  const [silent, busy, spooled, ended] = [
    await upload('forwarding'),
    await upload('forwarding'),
    await upload('receiving'),
    await upload('ready'),
  ]
  for (const { id } of [silent, spooled, ended]) await age(id, 60_000)
  t.match(await silentUploads(db, 30_000, 10), [{ id: silent.id }])
  t.equal((await silentUploads(db, 30_000, 10)).length, 1)
  t.equal(await failSilent(db, busy.id, 30_000, problem), undefined)
  await age(busy.id, 60_000)
  await recordForwarded(db, busy.id, 1)
  t.equal(await failSilent(db, busy.id, 30_000, problem), undefined, 'progress makes it young again')
  t.match(await failSilent(db, silent.id, 30_000, problem), { state: 'failed', problem })
  t.equal(await failSilent(db, silent.id, 30_000, problem), undefined)
})
