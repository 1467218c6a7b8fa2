import { PassThrough, Readable } from 'node:stream'
import t from 'tap'
import { loadProjectState } from '../../../src/db/projects.ts'
import { recordForwarded } from '../../../src/db/uploads.ts'
import { clip, film, problemOf, request, setStage, sha256, tiny, until } from './stage.ts'

const beach = { filename: 'beach day.mp4', mediaType: 'video/mp4', bytes: clip }

t.test('a file is passed on byte for byte, and the project is up to date after it', async t => {
  const { uploads, alice, project, heard, told, db } = await setStage(t)
  const [upload] = await uploads.receive(alice, project.id, request(beach))
  t.strictSame(upload, {
    id: upload!.id,
    projectId: project.id,
    state: 'ready',
    filename: 'beach day.mp4',
    mediaType: 'video/mp4',
    bytes: clip.length,
    bytesForwarded: clip.length,
    media: { kind: 'video', durationMs: 5000, width: 640, height: 360 },
  })
  t.match(heard(), [{ sha256: sha256(clip), bytes: clip.length, accepted: true, platform: 'web' }])
  const events = await told()
  t.match(events, [{ state: 'forwarding', bytes: null, bytesForwarded: 0 }, { state: 'ready' }])
  t.strictSame(events[1], upload, 'the event shows what the answer shows')
  t.strictSame(await uploads.get(alice.userId, upload!.id), upload)

  const row = (await loadProjectState(db, project.id))!
  t.match(row, { exportable: true, revision: 1, media: [{ kind: 'video', name: 'beach day.mp4' }] })
  t.match(row.summary, /beach day/, 'people know their files by name')
})

t.test('one bad file among good ones', async t => {
  const { uploads, alice, project, heard, told } = await setStage(t)
  const items = await uploads.receive(
    alice,
    project.id,
    request(
      beach,
      { filename: 'page.mp4', mediaType: 'video/mp4', bytes: Buffer.from('<html><script>alert(1)</script>') },
      { filename: 'notes.txt', mediaType: 'text/plain', bytes: Buffer.from('hello') },
      { filename: 'photo.png', mediaType: 'image/png', bytes: tiny('png') },
    ),
  )
  t.match(items, [
    { state: 'ready', filename: 'beach day.mp4' },
    { state: 'failed', filename: 'page.mp4', mediaType: null, problem: { code: 'unsupported_media' } },
    { state: 'failed', filename: 'notes.txt', problem: { userState: { message: /mp4, mov/ } } },
    { state: 'ready', filename: 'photo.png', media: { kind: 'image' } },
  ])
  t.same(
    heard().map(entry => entry.bytes),
    [clip.length, tiny('png').length],
    'not a byte of a refused file left',
  )
  t.equal((await told()).filter(upload => upload.state === 'failed').length, 2)
  t.strictSame((await uploads.list(alice.userId, project.id, undefined, 10)).items, items.toReversed())
})

t.test('what pretends to be something else is refused before a byte leaves', async t => {
  const { uploads, alice, project, heard } = await setStage(t)
  const files = {
    'elf.mp4': Buffer.from('\x7fELF\x02\x01\x01'),
    'zip.mp4': Buffer.from('PK\x03\x04'),
    'playlist.mp4': Buffer.from('#EXTM3U\nfile:///etc/passwd'),
    'drawing.png': Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'),
    'song.mp4': tiny('mp3'),
    'clip.mp4\0.html': clip,
    empty: Buffer.alloc(0),
  }
  for (const [filename, bytes] of Object.entries(files))
    t.match(await problemOf(uploads.receive(alice, project.id, request({ filename, bytes }))), {
      code: 'unsupported_media',
      status: 415,
    })
  t.match(
    await problemOf(uploads.receive(alice, project.id, request({ ...beach, mediaType: 'text/html' }))),
    { code: 'unsupported_media' },
  )
  t.same(heard(), [])
})

t.test('no file at all', async t => {
  const { uploads, alice, project } = await setStage(t)
  t.match(await problemOf(uploads.receive(alice, project.id, request())), {
    code: 'invalid_request',
    detail: /"file"/,
  })
})

t.test('a file that grows too large is broken off at both ends', async t => {
  const { uploads, alice, project, heard, told } = await setStage(t, { maxBytes: clip.length + 200_000 })
  const bytes = Readable.from(film(20))
  t.match(await problemOf(uploads.receive(alice, project.id, request({ ...beach, bytes }))), {
    code: 'file_too_large',
    status: 413,
  })
  t.match((await told()).at(-1), { state: 'failed', bytes: null, problem: { code: 'file_too_large' } })
  await until(() => heard().length)
  t.match(heard(), [{ answer: 'aborted', accepted: false }])
  t.ok((await told()).at(-1)!.bytesForwarded <= clip.length + 200_000)

  const [exact] = await uploads.receive(
    alice,
    project.id,
    request({ ...beach, bytes: Buffer.concat([clip, Buffer.alloc(200_000)]) }),
  )
  t.equal(exact?.state, 'ready', 'the limit itself is allowed')
})

t.test('a client that leaves in the middle', async t => {
  const { uploads, alice, project, heard, told } = await setStage(t)
  const bytes = new PassThrough()
  bytes.write(clip)
  const received = uploads.receive(alice, project.id, request({ ...beach, bytes }))
  await until(async () => (await told()).length)
  bytes.write(Buffer.alloc(100))
  // Taken only after what came before it was written to the upstream.
  await until(() => bytes.readableLength === 0)
  bytes.destroy()
  t.match(await problemOf(received), { code: 'upload_interrupted', status: 409 })
  await until(() => heard().length)
  t.match(heard(), [{ answer: 'aborted', accepted: false }], 'the upstream is let go')
  t.match(await told(), [
    { state: 'forwarding' },
    { state: 'failed', problem: { userState: { action: { kind: 'retry' } } } },
  ])
})

t.test('the upstream refuses in the middle, and nobody waits for the rest', async t => {
  const { uploads, alice, project, sandbox, told } = await setStage(t, { limits: { discardMs: 20 } })
  sandbox.faults.add({ on: 'upload', answer: 'code', code: 2001 })
  const bytes = new PassThrough()
  bytes.write(clip)
  t.match(await problemOf(uploads.receive(alice, project.id, request({ ...beach, bytes }))), {
    code: 'credits_exhausted',
    userState: { action: { kind: 'register' } },
  })
  t.ok(bytes.destroyed)
  t.match((await told()).at(-1), { state: 'failed', problem: { code: 'credits_exhausted' } })
})

t.test('a refused file whose rest is short does not take the next one with it', async t => {
  const { uploads, alice, project, sandbox } = await setStage(t)
  sandbox.faults.add({ on: 'upload', answer: 'code', code: 4001 })
  const items = await uploads.receive(alice, project.id, request(beach, { ...beach, filename: 'two.mp4' }))
  t.match(items, [{ state: 'failed', problem: { code: 'unsupported_media' } }, { state: 'ready' }])
})

t.test('a connection that breaks in the middle is an interruption, not an outage', async t => {
  const { uploads, alice, project, sandbox } = await setStage(t)
  sandbox.faults.add({ on: 'upload', answer: 'reset', how: 'rst', afterBytes: 100_000 })
  const bytes = Readable.from(film(100))
  t.match(await problemOf(uploads.receive(alice, project.id, request({ ...beach, bytes }))), {
    code: 'upload_interrupted',
  })
})

t.test('an upstream that fails after the whole file', async t => {
  const { uploads, alice, project, sandbox } = await setStage(t)
  sandbox.faults.add({ on: 'upload', answer: 'status', status: 503, act: true })
  const unavailable = { code: 'upstream_unavailable' }
  t.match(await problemOf(uploads.receive(alice, project.id, request(beach))), unavailable)
  sandbox.faults.add({ on: 'upload', answer: 'body', body: '{"code":0,"data":{"files":[]}}' })
  t.match(await problemOf(uploads.receive(alice, project.id, request(beach))), unavailable, 'it took no file')
})

t.test('a dead token or session is found before the body is sent', async t => {
  const { uploads, alice, project, sandbox, heard } = await setStage(t)
  await uploads.receive(alice, project.id, request(beach))
  sandbox.faults.revokeToken('all')
  t.match(await uploads.receive(alice, project.id, request(beach)), [{ state: 'ready' }])
  sandbox.faults.dropSession('all')
  t.match(await uploads.receive(alice, project.id, request(beach)), [{ state: 'ready' }])
  t.match(
    heard().map(entry => entry.sha256),
    [sha256(clip), sha256(clip), sha256(clip)],
  )
})

for (const code of [1001, 1002])
  t.test(`code ${code} on the upload itself: half a body is never sent again`, async t => {
    const { uploads, alice, project, sandbox, heard } = await setStage(t)
    sandbox.faults.add({ on: 'upload', answer: 'code', code, act: true })
    const bytes = function* () {
      yield clip
      sandbox.faults.revokeToken('all')
    }
    const received = uploads.receive(alice, project.id, request({ ...beach, bytes: Readable.from(bytes()) }))
    t.match(await problemOf(received), {
      code: 'upload_interrupted',
      userState: { action: { kind: 'retry' } },
    })
    t.equal(heard().length, 1)
    t.match(
      await uploads.receive(alice, project.id, request(beach)),
      [{ state: 'ready' }],
      'the next one goes',
    )
  })

t.test('a call that failed before it took a byte is made again', async t => {
  let calls = 0
  const { uploads, alice, project, heard } = await setStage(t, {
    bend: ({ uploadFile }) => ({
      // A token that dies between the check and the call: the client refuses it without reading the body.
      uploadFile: (credential, file) =>
        calls++ === 0 ? Promise.resolve({ kind: 'session' }) : uploadFile(credential, file),
    }),
  })
  t.match(await uploads.receive(alice, project.id, request(beach)), [{ state: 'ready' }])
  t.match(heard(), [{ sha256: sha256(clip) }])
})

t.test('no token, no upload', async t => {
  const { uploads, alice, project, sandbox, told, heard } = await setStage(t, { sandbox: { mintsPerIp: 0 } })
  const bytes = Readable.from(film(1))
  t.match(await problemOf(uploads.receive(alice, project.id, request({ ...beach, bytes }))), {
    code: 'rate_limited',
  })
  t.same(heard(), [])
  t.same(await told(), [])
  t.ok(sandbox.journal().every(entry => entry.endpoint === 'mint'))
})

t.test('a project that cannot be read afterwards does not fail the upload', async t => {
  const { uploads, alice, project, sandbox } = await setStage(t)
  sandbox.faults.add({ on: 'state', answer: 'html', status: 500, skip: 1 })
  t.match(await uploads.receive(alice, project.id, request(beach)), [{ state: 'ready' }])
})

t.test('progress is told once a second at most, and never after the end', async t => {
  const { uploads, alice, project, told } = await setStage(t)
  const source = async function* () {
    for (const chunk of film(12)) {
      yield chunk
      await new Promise(resolve => setTimeout(resolve, 120))
    }
  }
  const [upload] = await uploads.receive(
    alice,
    project.id,
    request({ ...beach, bytes: Readable.from(source()) }),
  )
  const steps = (await told()).map(({ state, bytesForwarded }) => ({ state, bytesForwarded }))
  t.match(steps, [
    { state: 'forwarding', bytesForwarded: 0 },
    { state: 'forwarding' },
    { state: 'ready', bytesForwarded: upload!.bytes },
  ])
  t.ok(steps[1]!.bytesForwarded > clip.length && steps[1]!.bytesForwarded < upload!.bytes!)
})

t.test('by address', async t => {
  const { uploads, alice, project, heard, told, projects } = await setStage(t)
  const urls = ['https://films.invalid/a/beach%20day.mov?sig=s3cret']
  const [upload] = await uploads.byUrl(alice, project.id, urls)
  t.match(upload, { state: 'ready', filename: 'beach day.mov', bytes: null, media: { kind: 'video' } })
  t.match(heard(), [{ accepted: true }])
  t.match(await told(), [{ state: 'forwarding' }, { state: 'ready' }])
  t.notMatch(JSON.stringify(await told()), /s3cret/)
  t.match(await projects.own(alice.userId, project.id), { revision: 1 })
})

t.test('addresses that must not be used never reach the upstream', async t => {
  const { uploads, alice, project, sandbox, heard } = await setStage(t)
  const before = sandbox.journal().length
  t.match(await problemOf(uploads.byUrl(alice, project.id, ['http://169.254.169.254/a.mp4'])), {
    code: 'url_not_allowed',
    status: 422,
  })
  t.equal(sandbox.journal().length, before)
  const items = await uploads.byUrl(alice, project.id, [
    'https://films.invalid/a.mp4',
    'http://127.1/b.mp4',
    'https://films.invalid/notes.txt',
    'https://films.invalid/c.mp4',
  ])
  t.match(items, [
    { state: 'ready' },
    { state: 'failed', filename: 'b.mp4', problem: { code: 'url_not_allowed' } },
    { state: 'failed', problem: { code: 'unsupported_media' } },
    { state: 'ready' },
  ])
  t.equal(heard().length, 3)
})

t.test('by address, what is wrong with the account is not tried again and again', async t => {
  const { uploads, alice, project, sandbox, heard } = await setStage(t)
  sandbox.faults.add({ on: 'upload', answer: 'code', code: 2001, skip: 1 })
  const urls = ['a', 'b', 'c', 'd'].map(name => `https://films.invalid/${name}.mp4`)
  const items = await uploads.byUrl(alice, project.id, urls)
  const exhausted = { state: 'failed', problem: { code: 'credits_exhausted' } }
  t.match(items, [{ state: 'ready' }, exhausted, exhausted, exhausted])
  t.equal(heard().length, 2)
})

t.test('another user’s uploads do not exist', async t => {
  const { uploads, alice, bob, project, projects, heard } = await setStage(t)
  const [upload] = await uploads.receive(alice, project.id, request(beach))
  const missing = { code: 'not_found', status: 404 }
  t.match(await problemOf(uploads.receive(bob, project.id, request(beach))), missing)
  t.match(await problemOf(uploads.byUrl(bob, project.id, ['https://films.invalid/a.mp4'])), missing)
  t.match(await problemOf(uploads.list(bob.userId, project.id, undefined, 10)), missing)
  t.match(await problemOf(uploads.get(bob.userId, upload!.id)), missing)
  t.equal(heard().length, 1)
  await projects.remove(alice.userId, project.id)
  t.match(await problemOf(uploads.get(alice.userId, upload!.id)), missing)
})

t.test('what a dead process left under way is failed once it is silent', async t => {
  const { uploads, alice, project, told, db } = await setStage(t)
  const bytes = new PassThrough()
  bytes.write(clip)
  const received = uploads.receive(alice, project.id, request({ ...beach, bytes }))
  const { id } = (await until(async () => (await told())[0])) as { id: string }
  t.equal(await uploads.sweepInterrupted(60_000), 0, 'it is not silent yet')
  await new Promise(resolve => setTimeout(resolve, 30))
  await recordForwarded(db, id, 10)
  t.equal(await uploads.sweepInterrupted(20), 0, 'progress keeps it')
  await new Promise(resolve => setTimeout(resolve, 30))
  t.equal(await uploads.sweepInterrupted(20), 1)
  const failed = { state: 'failed', problem: { code: 'upload_interrupted' } }
  t.match((await told()).at(-1), failed)
  t.equal(await uploads.sweepInterrupted(0), 0)

  bytes.end()
  t.match(await problemOf(received), { code: 'upload_interrupted' }, 'an end is final')
  t.match(await uploads.get(alice.userId, id), failed)
})

t.test('the list comes in pages', async t => {
  const { uploads, alice, project } = await setStage(t)
  const png = tiny('png')
  await uploads.receive(
    alice,
    project.id,
    request(...['a', 'b', 'c'].map(name => ({ filename: `${name}.png`, bytes: png }))),
  )
  const first = await uploads.list(alice.userId, project.id, undefined, 2)
  t.match(first, { items: [{ filename: 'c.png' }, { filename: 'b.png' }], next: first.items[1]!.id })
  const second = await uploads.list(alice.userId, project.id, first.next!, 2)
  t.match(second, { items: [{ filename: 'a.png' }], next: null })
})
