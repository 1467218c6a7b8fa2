import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { renderFile } from '../../../sandbox/files.ts'
import { attachment, type FileRequest } from '../../../src/services/renders/file.ts'
import { startJournal } from '../upstream/origin.ts'
import { problemOf, setStage } from './stage.ts'

const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const whole: FileRequest = {
  range: null,
  ifRange: null,
  ifNoneMatch: null,
  signal: new AbortController().signal,
}
const size = renderFile.bytes.length

async function setFilm(
  t: Parameters<typeof setStage>[0],
  before?: (stage: Awaited<ReturnType<typeof setStage>>) => void,
) {
  const stage = await setStage(t)
  before?.(stage)
  const { renders, alice, project, ended } = stage
  const { id } = await renders.create(alice, project.id)
  t.match(await problemOf(renders.file(alice.userId, id, whole)), { code: 'not_ready', status: 409 })
  t.match(await ended(id), { state: 'completed' })
  const open = (request: Partial<FileRequest> = {}) =>
    renders.file(alice.userId, id, { ...whole, ...request })
  return { ...stage, id, open }
}

t.test('the whole film', async t => {
  const { open, heard } = await setFilm(t)
  const file = await open()
  t.match(file, {
    status: 200,
    headers: {
      'content-type': 'video/mp4',
      'content-length': String(size),
      'accept-ranges': 'bytes',
      'cache-control': 'private, no-store',
      'content-disposition': `attachment; filename="Holiday.mp4"; filename*=UTF-8''Holiday.mp4`,
    },
  })
  t.equal(sha(await buffer(file.body)), sha(renderFile.bytes))
  t.match(heard('file'), [{ authorization: false }], 'the link is fetched without the token')
})

t.test('ranges', async t => {
  const { open } = await setFilm(t)
  const part = await open({ range: 'bytes=100-199' })
  t.match(part, {
    status: 206,
    headers: { 'content-range': `bytes 100-199/${size}`, 'content-length': '100' },
  })
  t.same(await buffer(part.body), renderFile.bytes.subarray(100, 200))

  const { etag = '' } = part.headers
  const resumed = await open({ range: 'bytes=200-', ifRange: etag })
  t.equal(resumed.status, 206)
  t.same(await buffer(resumed.body), renderFile.bytes.subarray(200))
  const changed = await open({ range: 'bytes=200-', ifRange: '"another"' })
  t.equal(changed.status, 200)
  t.equal((await buffer(changed.body)).length, size)

  const several = await open({ range: 'bytes=0-1,5-6' })
  t.match(several, { status: 200, headers: { 'content-length': String(size) } })
  t.equal((await buffer(several.body)).length, size)

  t.match(await open({ range: `bytes=${size}-` }), {
    status: 416,
    headers: { 'content-range': `bytes */${size}` },
  })
})

t.test('a film whose link has died', async t => {
  const { open, heard } = await setFilm(t, ({ sandbox }) =>
    sandbox.faults.add({ on: 'render', answer: 'dead_url' }),
  )
  t.equal(sha(await buffer((await open()).body)), sha(renderFile.bytes))
  t.equal(heard('download').length, 1)
})

t.test('a link that has died is replaced by the one of today, which is kept', async t => {
  const { open, sandbox, heard, db, id } = await setFilm(t)
  const dead = await startJournal(t, (_, response) => response.writeHead(410).end())
  await db.execute(sql`update renders set file_url = ${`${dead.url}/old.mp4`} where id = ${id}`)
  sandbox.faults.add({ on: 'download', answer: 'status', status: 500 })
  t.equal(sha(await buffer((await open()).body)), sha(renderFile.bytes))
  t.equal(dead.journal.length, 1)
  t.notOk(dead.journal[0]!.headers.authorization)

  const { rows } = await db.execute<{ file_url: string }>(sql`select file_url from renders where id = ${id}`)
  t.equal(new URL(rows[0]!.file_url).origin, sandbox.url)
  const downloads = heard('download').length
  await buffer((await open()).body)
  t.equal(dead.journal.length, 1, 'the dead one is not asked again')
  t.equal(heard('download').length, downloads)
})

t.test('a film that is nowhere to be had is a problem, not an empty file', async t => {
  const { open, sandbox } = await setFilm(t)
  sandbox.faults.add({ on: 'file', answer: 'status', status: 404, times: 9 })
  sandbox.faults.add({ on: 'download', answer: 'html', status: 502, times: 9 })
  t.match(await problemOf(open()), { code: 'upstream_unavailable', userState: { action: { kind: 'retry' } } })
})

t.test('names of films', async t => {
  const cases: [string, string][] = [
    ['Holiday', `attachment; filename="Holiday.mp4"; filename*=UTF-8''Holiday.mp4`],
    [
      '我的 视频',
      `attachment; filename="__ __.mp4"; filename*=UTF-8''%E6%88%91%E7%9A%84%20%E8%A7%86%E9%A2%91.mp4`,
    ],
    [
      '../../etc/"x"\r\nset-cookie: a=1',
      `attachment; filename="etc x set-cookie a=1.mp4"; filename*=UTF-8''etc%20x%20set-cookie%20a%3D1.mp4`,
    ],
    ['\u202e4pm.exe', `attachment; filename="4pm.exe.mp4"; filename*=UTF-8''4pm.exe.mp4`],
    ['clip.mp4', `attachment; filename="clip.mp4"; filename*=UTF-8''clip.mp4`],
    ['\ud800', `attachment; filename="_.mp4"; filename*=UTF-8''%EF%BF%BD.mp4`],
    ['...', `attachment; filename="video.mp4"; filename*=UTF-8''video.mp4`],
    ['', `attachment; filename="video.mp4"; filename*=UTF-8''video.mp4`],
    ["it's (1)", `attachment; filename="it's (1).mp4"; filename*=UTF-8''it%27s%20%281%29.mp4`],
  ]
  for (const [name, header] of cases) t.equal(attachment(name), header, JSON.stringify(name))
  t.ok(attachment('x'.repeat(5_000)).length < 300)
})
