import t from 'tap'
import { startS3 } from '../../helpers/s3.ts'
import { setResumableStage } from './resumable-stage.ts'
import { clip, film, problemOf, sha256, until } from './stage.ts'

// More than one part, of which the last may be small.
const bytes = Buffer.concat([...film(100)])

t.test('in a bucket: begun at one instance, continued at another, and nothing is left there', async t => {
  const { open, heard, ended } = await setResumableStage(t)
  const { config: s3, objects, multiparts } = await startS3(t)
  const [a, b] = [await open({ s3 }), await open({ s3, dataDir: '/nowhere' })]
  const id = await a.create(bytes.length)
  t.match(await a.patch(id, 0, bytes.subarray(0, 1_000_000)), { headers: { 'upload-offset': '1000000' } })
  t.match(await b.head(id), { headers: { 'upload-offset': '1000000' } })
  await b.patch(id, 1_000_000, bytes.subarray(1_000_000, 6_500_000))
  t.match(await a.head(id), { headers: { 'upload-offset': '6500000' } })
  await a.patch(id, 6_500_000, bytes.subarray(6_500_000))
  t.match(await ended(id), { state: 'ready', bytes: bytes.length })
  t.match(heard(), [{ sha256: sha256(bytes) }])
  await until(() => objects.size + multiparts.size === 0)
})

t.test('what a client ends or never finishes is not kept', async t => {
  const { open } = await setResumableStage(t)
  const { config: s3, objects, multiparts } = await startS3(t)
  const { create, patch, remove, head } = await open({ s3 })
  const id = await create(bytes.length)
  await patch(id, 0, bytes.subarray(0, 6_000_000))
  await remove(id)
  t.match(await problemOf(head(id)), { code: 'upload_gone' })
  t.same([...objects.keys(), ...multiparts.keys()], [])
})

t.test('a bucket that does not answer fails the request, and the upload goes on afterwards', async t => {
  const { open, ended, heard } = await setResumableStage(t)
  const { config: s3, refuse } = await startS3(t)
  const { create, patch, head } = await open({ s3 })
  const id = await create(clip.length)
  refuse(({ method }) => (method === 'PUT' ? 403 : null))
  await t.rejects(patch(id, 0, clip))
  refuse(() => null)
  const { headers } = await head(id)
  await patch(id, Number(headers['upload-offset']), clip.subarray(Number(headers['upload-offset'])))
  t.match(await ended(id), { state: 'ready' })
  t.match(heard(), [{ sha256: sha256(clip) }])
})
