import t from 'tap'
import { setResumableStage } from './resumable-stage.ts'
import { clip, sha256, until } from './stage.ts'

// Most of the time here is spent on waiting for the queue.
t.jobs = 3

t.test('what meets a file on its way, and that the project gets it once', async t => {
  const faults = {
    'a session that is gone': { answer: 'code', code: 1002 },
    'a backend that is down': { answer: 'status', status: 503 },
    'a cut in the middle': { answer: 'reset', afterBytes: 10_000 },
    'a cut after all of it, the file taken': { answer: 'reset' },
    'an error after all of it, the file taken': { answer: 'status', status: 502, act: true },
    'an answer that is no answer, the file taken': { answer: 'garbage', act: true },
    'a rate limit': { answer: 'status', status: 429, retryAfter: 0 },
  } as const
  for (const [what, fault] of Object.entries(faults))
    t.test(what, async t => {
      const { open, sandbox, heard, ended, spooled, project, db, alice, timelines, projects } =
        await setResumableStage(t)
      const instance = await open()
      await projects.call(project, alice, async () => ({ kind: 'ok', value: null }))
      sandbox.faults.add({ on: 'upload', ...fault })
      const id = await instance.upload(clip)
      t.match(await ended(id), { state: 'ready', bytes: clip.length, media: { kind: 'video' } })
      const accepted = heard().filter(entry => entry.accepted)
      t.match(accepted, [{ sha256: sha256(clip) }], 'one file, whole')
      const state = await timelines.read(project, alice)
      t.equal(state.kind === 'ok' && state.value.media.length, 1)
      await until(async () => (await spooled()).length === 0)
      await until(async () => (await db.query.uploadSpools.findMany()).length === 0)
    })
})

t.test('a token that dies right before the file is sent', async t => {
  let revoke = () => {}
  const { open, sandbox, heard, ended } = await setResumableStage(t, {
    bend: ({ uploadFile }) => ({
      uploadFile: (...call) => {
        revoke()
        return uploadFile(...call)
      },
    }),
  })
  revoke = () => {
    sandbox.faults.revokeToken('all')
    revoke = () => {}
  }
  const { upload } = await open()
  t.match(await ended(await upload(clip)), { state: 'ready' })
  t.match(
    heard().map(({ accepted }) => accepted),
    [false, true],
  )
})

t.test('what the backend refuses has failed, and is not tried again', async t => {
  const { open, sandbox, heard, ended, spooled } = await setResumableStage(t)
  const instance = await open()
  for (const [code, problem] of [
    [4001, 'unsupported_media'],
    [4002, 'file_too_large'],
    [2001, 'credits_exhausted'],
  ] as const) {
    sandbox.faults.add({ on: 'upload', answer: 'code', code })
    t.match(await ended(await instance.upload(clip)), { state: 'failed', problem: { code: problem } })
  }
  t.equal(heard().length, 3)
  await until(async () => (await spooled()).length === 0)
})

t.test('files of one name get names of their own, by which they are found again', async t => {
  const { open, sandbox, ended, timelines, project, alice } = await setResumableStage(t)
  const instance = await open()
  await ended(await instance.upload(clip))
  sandbox.faults.add({ on: 'upload', answer: 'reset' })
  t.match(await ended(await instance.upload(clip)), { state: 'ready', filename: 'clip.mp4' })
  const state = await timelines.read(project, alice)
  t.same(state.kind === 'ok' && state.value.media.map(({ name }) => name), ['clip.mp4', 'clip (2).mp4'])
})

t.test('a file that nobody has seen arrive is sent again after a while', async t => {
  const { open, sandbox, heard, ended } = await setResumableStage(t)
  const instance = await open()
  sandbox.faults.add({ on: 'upload', answer: 'reset', act: false })
  t.match(await ended(await instance.upload(clip)), { state: 'ready' })
  t.equal(heard().length, 2)
  t.equal(heard().filter(entry => entry.accepted).length, 1)
})

t.test('progress is told, but not more than once a second', async t => {
  const { open, told, ended } = await setResumableStage(t)
  const instance = await open()
  await ended(await instance.upload(Buffer.concat([clip, Buffer.alloc(9_000_000)])))
  const events = await told()
  t.ok(events.length <= 6, `${events.length} events`)
  t.equal(events.at(-1)!.bytesForwarded, events.at(-1)!.bytes)
})

t.test('a shutdown in the middle hands over, and the next instance sends it', async t => {
  const { open, sandbox, heard, ended } = await setResumableStage(t)
  const first = await open()
  sandbox.faults.add({ on: 'upload', answer: 'hang', act: false })
  const id = await first.upload(clip)
  await until(() => heard().length)
  const closing = first.close()
  await open()
  await closing
  t.match(await ended(id), { state: 'ready' })
  t.equal(heard().filter(entry => entry.accepted).length, 1)
})

t.test('a project that is removed meanwhile', async t => {
  const { open, projects, alice, project, heard, spooled, db } = await setResumableStage(t)
  const first = await open({ forwards: false })
  const id = await first.upload(clip)
  await projects.remove(alice.userId, project.id)
  await open()
  await until(async () => (await db.query.uploads.findFirst())?.state === 'failed')
  await until(async () => (await spooled()).length === 0)
  t.same(heard(), [])
  t.ok(id)
})
