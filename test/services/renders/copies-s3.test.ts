import { randomBytes, randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { renderFile } from '../../../sandbox/files.ts'
import { openS3Copies } from '../../../src/services/renders/copies-s3.ts'
import { testApp } from '../../helpers/app.ts'
import { signIn } from '../../helpers/client.ts'
import { until } from '../../helpers/gateway.ts'
import { startS3 } from '../../helpers/s3.ts'

const ALL = { range: null, ifRange: null, ifNoneMatch: null }
// A part and a rest, in chunks that do not fit the parts.
const film = randomBytes(10 << 20)

function* chunksOf(bytes: Buffer, size = 1_000_003) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

t.test('a film of several parts is kept, and given whole and in ranges', async t => {
  const s3 = await startS3(t)
  const copies = openS3Copies(s3.config)
  const id = randomUUID()
  t.equal(await copies.open(id, ALL), null, 'none yet')
  await copies.keep(id, { bytes: film.length, body: Readable.from(chunksOf(film)) })

  const whole = (await copies.open(id, ALL))!
  t.match(whole, { status: 200, bytes: film.length, mediaType: 'video/mp4', contentRange: null })
  t.ok((await buffer(whole.body)).equals(film))

  const { etag } = whole
  const part = (await copies.open(id, { ...ALL, range: 'bytes=8388600-8388700', ifRange: etag }))!
  t.match(part, { status: 206, bytes: 101, contentRange: `bytes 8388600-8388700/${film.length}`, etag })
  t.ok((await buffer(part.body)).equals(film.subarray(8_388_600, 8_388_701)))
  t.equal(s3.requests.at(-1)!.range, 'bytes=8388600-8388700', 'no more was fetched than was asked for')

  const last = (await copies.open(id, { ...ALL, range: 'bytes=-3' }))!
  t.ok((await buffer(last.body)).equals(film.subarray(-3)))
  t.match(await copies.open(id, { ...ALL, range: `bytes=${film.length}-` }), {
    status: 416,
    contentRange: `bytes */${film.length}`,
  })
  const asked = s3.requests.length
  t.match(await copies.open(id, { ...ALL, ifNoneMatch: etag }), { status: 304, bytes: null, etag })
  t.same(
    s3.requests.slice(asked).map(({ method }) => method),
    ['HEAD'],
    'no byte was fetched',
  )
})

t.test('clients that do not read on keep nobody waiting', async t => {
  const s3 = await startS3(t)
  const copies = openS3Copies(s3.config)
  const id = randomUUID()
  await copies.keep(id, { bytes: null, body: Readable.from([film.subarray(0, 200_000)]) })
  const slow = await Promise.all(Array.from({ length: 51 }, () => copies.open(id, ALL)))
  const last = (await copies.open(id, { ...ALL, range: 'bytes=0-9' }))!
  t.ok((await buffer(last.body)).equals(film.subarray(0, 10)))
  for (const one of slow) one!.body.on('error', () => {}).destroy()
})

t.test('a copy that breaks off is none, and leaves nothing behind', async t => {
  const s3 = await startS3(t)
  const copies = openS3Copies(s3.config)
  const id = randomUUID()
  await t.rejects(copies.keep(id, { bytes: film.length + 1, body: Readable.from(chunksOf(film)) }), {
    message: /has 10485760 bytes/,
  })
  const broken = Readable.from(
    (async function* () {
      yield film
      throw new Error('cut')
    })(),
  )
  await t.rejects(copies.keep(id, { bytes: null, body: broken }), { message: 'cut' })
  s3.refuse(({ query }) => (query.get('partNumber') === '2' ? 403 : null))
  const source = Readable.from(chunksOf(film))
  await t.rejects(copies.keep(id, { bytes: film.length, body: source }))
  t.ok(source.destroyed, 'the film is not fetched any further')
  t.equal(await copies.open(id, ALL), null)
  t.same([s3.objects.size, s3.multiparts.size], [0, 0])
})

t.test('the sweep leaves what somebody may ask for, and what is none of its business', async t => {
  const s3 = await startS3(t, { pageSize: 2 })
  const copies = openS3Copies(s3.config)
  const ids = Array.from({ length: 5 }, () => randomUUID())
  for (const id of ids) await copies.keep(id, { bytes: 3, body: Readable.from([Buffer.from('abc')]) })
  const stored = s3.objects.get(`renders/${ids[0]}.mp4`)!
  for (const key of ['renders/notes.txt', 'elsewhere/film.mp4']) s3.objects.set(key, stored)
  for (const hours of [25, 1])
    s3.multiparts.set(`begun ${hours} h ago`, {
      key: `renders/${ids[0]}.mp4`,
      headers: new Map(),
      begun: new Date(Date.now() - hours * 3_600_000),
      parts: new Map(),
    })
  await copies.sweep(async found => found.filter(id => id === ids[2]))
  t.same(
    [...s3.objects.keys()].sort(),
    ['elsewhere/film.mp4', 'renders/notes.txt', `renders/${ids[2]}.mp4`].sort(),
  )
  t.same([...s3.multiparts.keys()], ['begun 1 h ago'])
})

t.test(
  'one instance keeps a film in the bucket, another gives it out; without the bucket the backend does',
  async t => {
    const s3 = await startS3(t)
    const env = { KEEP_RENDERS: '1', ...s3.env('RENDERS') }
    const { url, database } = await testApp(t, { env })
    const alice = await signIn(url)
    const project = await alice.projectWithClip()
    const { id } = await alice.post(`/v1/projects/${project}/renders`)
    await until(async () => s3.objects.has(`renders/${id}.mp4`), 60_000)
    const other = await testApp(t, { env, database })
    const get = (headers = {}) =>
      fetch(`${other.url}/v1/renders/${id}/file`, {
        headers: { authorization: `Bearer ${alice.token}`, ...headers },
      })

    const answer = await get({ range: 'bytes=10-19' })
    t.equal(answer.status, 206)
    t.equal(answer.headers.get('content-range'), `bytes 10-19/${renderFile.bytes.length}`)
    t.ok(Buffer.from(await answer.arrayBuffer()).equals(renderFile.bytes.subarray(10, 20)))
    t.equal((await get({ 'if-none-match': answer.headers.get('etag')! })).status, 304)
    t.notOk(
      other.sandbox.journal().some(({ endpoint }) => endpoint === 'file'),
      'it did not come from the backend',
    )

    s3.refuse(() => 403)
    const own = await fetch(`${url}/v1/renders/${id}/file`, {
      headers: { authorization: `Bearer ${alice.token}` },
    })
    t.equal(own.status, 200, 'the backend still has it')
    t.ok(Buffer.from(await own.arrayBuffer()).equals(renderFile.bytes))
  },
)
