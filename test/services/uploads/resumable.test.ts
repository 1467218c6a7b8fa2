import { utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { temporaryFolder } from '../../helpers/gateway.ts'
import { setResumableStage } from './resumable-stage.ts'
import { clip, problemOf, sha256, until } from './stage.ts'

t.jobs = 3

t.test('begun at one instance, continued at another that reaches the spool', async t => {
  const { open, heard, ended } = await setResumableStage(t)
  const [a, b] = [await open(), await open()]
  const id = await a.create(clip.length)
  await a.patch(id, 0, clip.subarray(0, 7_000))
  t.match(await b.head(id), { headers: { 'upload-offset': '7000' } })
  await b.patch(id, 7_000, clip.subarray(7_000))
  t.match(await ended(id), { state: 'ready' })
  t.match(heard(), [{ sha256: sha256(clip) }])
})

t.test('an instance that cannot reach the spool says so, until the upload is whole', async t => {
  const { open, ended } = await setResumableStage(t)
  const near = await open()
  const far = await open({ dataDir: await temporaryFolder(t) })
  const id = await near.create(clip.length)
  for (const call of [() => far.head(id), () => far.patch(id, 0, clip), () => far.remove(id)])
    t.match(await problemOf(call()), {
      code: 'upload_gone',
      status: 410,
      userState: { message: /upload the file again/, action: { kind: 'retry' } },
    })
  await near.patch(id, 0, clip)
  t.match(await ended(id), { state: 'ready' }, 'its job waits for who reaches it')
  t.match(await far.head(id), { headers: { 'upload-offset': String(clip.length) } })
})

t.test('a request that hangs gives way to the next one, here and elsewhere', async t => {
  const { open, ended, heard, spoolSize } = await setResumableStage(t)
  const [a, b] = [await open(), await open()]
  const id = await a.create(clip.length)
  const stuck = new PassThrough()
  stuck.write(clip.subarray(0, 5_000))
  const first = a.patch(id, 0, stuck)
  await until(async () => (await spoolSize(id)) === 5_000)
  t.match(await b.head(id), { headers: { 'upload-offset': '5000' } }, 'what has arrived is kept')
  t.match(await first, { status: 204, headers: { 'upload-offset': '5000' } })
  const stuckToo = new PassThrough()
  stuckToo.write(clip.subarray(5_000, 6_000))
  const second = b.patch(id, 5_000, stuckToo)
  await until(async () => (await spoolSize(id)) === 6_000)
  t.match(await b.head(id), { headers: { 'upload-offset': '6000' } })
  await second
  await b.patch(id, 6_000, clip.subarray(6_000))
  t.match(await ended(id), { state: 'ready' })
  t.match(heard(), [{ sha256: sha256(clip) }])
})

t.test('two that write at once do not mix', async t => {
  const { open, ended, heard } = await setResumableStage(t)
  const [a, b] = [await open(), await open()]
  const id = await a.create(clip.length)
  const answers = await Promise.allSettled([a.patch(id, 0, clip), b.patch(id, 0, clip), a.patch(id, 0, clip)])
  t.equal(answers.filter(({ status }) => status === 'fulfilled').length, 1)
  await ended(id)
  t.match(heard(), [{ sha256: sha256(clip) }])
})

t.test('a client that dawdles is let go, and what came is kept', async t => {
  const limits = { minBytes: 1_000_000, windowMs: 200 }
  const { open } = await setResumableStage(t, { limits })
  const { create, patch, head } = await open()
  const id = await create(clip.length)
  const idle = new PassThrough()
  idle.write(clip.subarray(0, 5_000))
  t.match(await problemOf(patch(id, 0, idle)), {
    status: 408,
    code: 'request_timeout',
    userState: { message: /too slow/, action: { kind: 'retry' } },
  })
  t.match(await head(id), { headers: { 'upload-offset': '5000' } })
  const slow = new PassThrough()
  const timer = setInterval(() => slow.write(Buffer.alloc(1)), 20)
  t.teardown(() => clearInterval(timer))
  t.match(await problemOf(patch(id, 5_000, slow)), { status: 408 })
  clearInterval(timer)
  t.ok(Number((await head(id)).headers['upload-offset']) > 5_000)
})

t.test('a client that leaves, at each stage', async t => {
  const { open, ended, heard, spoolSize } = await setResumableStage(t)
  const { create, patch, head } = await open()
  const id = await create(clip.length)
  for (const after of [0, 5_000, 10]) {
    const body = new PassThrough().on('error', () => {})
    const offset = Number((await head(id)).headers['upload-offset'])
    const answer = patch(id, offset, body).catch(() => {})
    if (after) body.write(clip.subarray(offset, offset + after))
    await until(async () => (await spoolSize(id)) === offset + after || after === 0)
    body.destroy(new Error('aborted'))
    await answer
    t.equal((await head(id)).headers['upload-offset'], String(offset + after))
  }
  await patch(id, 5_010, clip.subarray(5_010))
  t.match(await ended(id), { state: 'ready' })
  t.match(heard(), [{ sha256: sha256(clip) }])
})

t.test('a whole upload whose process died before it could say so', async t => {
  const { open, ended, dataDir, spooled } = await setResumableStage(t)
  const { create, patch, head, resumable } = await open()
  const [asked, swept] = [await create(clip.length), await create(clip.length)]
  for (const id of [asked, swept]) {
    await patch(id, 0, clip.subarray(0, 5_000))
    await writeFile(join(dataDir, 'spool', id), clip)
  }
  t.match(await head(asked), { headers: { 'upload-offset': String(clip.length) } })
  t.match(await ended(asked), { state: 'ready' }, 'found when its client asks')
  await resumable.sweep({ quietMs: 0, orphanMs: 60_000 })
  t.match(await ended(swept), { state: 'ready' }, 'or when it is swept')
  await until(async () => (await spooled()).length === 0)
})

t.test('what is left behind is swept', async t => {
  const { open, db, dataDir, spooled, uploads, alice, someId } = await setResumableStage(t)
  const { create, patch, head, resumable } = await open()
  const [expired, alive] = [await create(clip.length), await create(clip.length)]
  for (const id of [expired, alive]) await patch(id, 0, clip.subarray(0, 5_000))
  await db.execute(
    sql`update upload_spools set expires_at = now() - interval '1 s' where upload_id = ${expired}`,
  )
  const orphan = someId()
  const young = someId()
  for (const id of [orphan, young]) await writeFile(join(dataDir, 'spool', id), 'x')
  const longAgo = new Date(Date.now() - 3_600_000)
  await utimes(join(dataDir, 'spool', orphan), longAgo, longAgo)
  await resumable.sweep({ quietMs: 0, orphanMs: 1_800_000 })
  t.same((await spooled()).sort(), [alive, young].sort())
  t.match(await uploads.get(alice.userId, expired), {
    state: 'failed',
    problem: { code: 'upload_interrupted' },
  })
  t.match(await problemOf(head(expired)), { status: 410 })
  t.match(await head(alive), { headers: { 'upload-offset': '5000' } })
})

t.test('a connection to the database that dies lets go of its locks, and writing goes on', async t => {
  const { open, db, ended, spoolSize } = await setResumableStage(t)
  const [a, b] = [await open(), await open()]
  const id = await a.create(clip.length)
  const stuck = new PassThrough()
  stuck.write(clip.subarray(0, 5_000))
  const first = a.patch(id, 0, stuck)
  await until(async () => (await spoolSize(id)) === 5_000)
  await until(async () => {
    const { rows } = await db.execute(sql`select pg_terminate_backend(l.pid) from pg_locks l
      join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and a.application_name = 'reelgate locks' and a.datname = current_database()`)
    return rows.length > 0
  })
  t.match(await first, { headers: { 'upload-offset': '5000' } }, 'who has lost the lock stops')
  await b.patch(id, 5_000, clip.subarray(5_000))
  t.match(await ended(id), { state: 'ready' })
})
