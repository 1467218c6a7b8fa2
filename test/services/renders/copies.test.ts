import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { renderFile } from '../../../sandbox/files.ts'
import { createCopies } from '../../../src/services/renders/copies-folder.ts'
import { testApp } from '../../helpers/app.ts'
import { signIn } from '../../helpers/client.ts'
import { temporaryFolder, until } from '../../helpers/gateway.ts'

const size = renderFile.bytes.length
const ALL = { range: null, ifRange: null, ifNoneMatch: null }

t.test(
  'a kept film outlives the backend’s link, in whole and in part, and goes with its project',
  async t => {
    const dataDir = await temporaryFolder(t)
    const { url, sandbox, app } = await testApp(t, { env: { KEEP_RENDERS: '1', DATA_DIR: dataDir } })
    const alice = await signIn(url)
    const project = await alice.projectWithClip()
    const { id } = await alice.post(`/v1/projects/${project}/renders`)
    await until(async () => (await alice.get(`/v1/renders/${id}`)).state === 'completed')
    const folder = join(dataDir, 'renders')
    await until(async () => (await readdir(folder).catch((): string[] => [])).includes(`${id}.mp4`))

    for (const on of ['file', 'download', 'render_poll'] as const)
      sandbox.faults.add({ on, answer: 'status', status: 410, times: 99 })
    const get = (headers: Record<string, string> = {}) =>
      fetch(`${url}/v1/renders/${id}/file`, {
        headers: { authorization: `Bearer ${alice.token}`, ...headers },
      })
    const whole = await get()
    t.equal(whole.status, 200)
    t.match(whole.headers.get('content-disposition'), /^attachment; filename="Untitled\.mp4"/)
    t.ok(Buffer.from(await whole.arrayBuffer()).equals(renderFile.bytes))
    const etag = whole.headers.get('etag')!
    const part = await get({ range: 'bytes=10-19', 'if-range': etag })
    t.equal(part.status, 206)
    t.equal(part.headers.get('content-range'), `bytes 10-19/${size}`)
    t.ok(Buffer.from(await part.arrayBuffer()).equals(renderFile.bytes.subarray(10, 20)))
    t.equal((await get({ range: 'bytes=10-19', 'if-range': '"another"' })).status, 200)
    t.equal((await get({ range: `bytes=${size}-` })).status, 416)
    t.equal((await get({ 'if-none-match': etag })).status, 304)

    await alice.remove(`/v1/projects/${project}`)
    t.equal((await get()).status, 404)
    await app.close()
    const again = await testApp(t, { env: { KEEP_RENDERS: '1', DATA_DIR: dataDir } })
    t.ok(again.url)
    await until(async () => (await readdir(folder)).length === 0)
  },
)

t.test('a copy that breaks off is none', async t => {
  const folder = await temporaryFolder(t)
  const copies = createCopies(folder)
  const film = {
    status: 200,
    mediaType: 'video/mp4',
    contentRange: null,
    etag: null,
    lastModified: null,
  } as const
  await t.rejects(copies.keep('a', { ...film, bytes: 9, body: Readable.from([Buffer.from('short')]) }))
  const broken = Readable.from(
    (async function* () {
      yield Buffer.from('some')
      throw new Error('cut')
    })(),
  )
  await t.rejects(copies.keep('a', { ...film, bytes: null, body: broken }))
  t.same(await readdir(folder), [])
  t.equal(await copies.open('a', ALL), null)

  await copies.keep('b', { ...film, bytes: 3, body: Readable.from([Buffer.from('abc')]) })
  await writeFile(join(folder, 'c.mp4'), 'c')
  await copies.sweep(async ids => ids.filter(id => id === 'b'))
  t.same(await readdir(folder), ['b.mp4'])
  const opened = await copies.open('b', { ...ALL, range: 'bytes=-2' })
  t.equal(String(await buffer(opened!.body)), 'bc')
})
