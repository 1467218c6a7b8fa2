import { execFile } from 'node:child_process'
import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { temporaryFolder } from '../../helpers/gateway.ts'
import { setResumableStage } from './resumable-stage.ts'
import { clip, problemOf, sha256 } from './stage.ts'

const run = promisify(execFile)
const MIB = 1 << 20

/** A disk of its own of 24 MiB, which is possible only for root where mounts are allowed. */
async function smallDisk(t: Parameters<typeof temporaryFolder>[0]): Promise<string | null> {
  const folder = join(await temporaryFolder(t), 'disk')
  await mkdir(folder)
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', folder])
  } catch {
    return null
  }
  t.teardown(() => run('umount', ['-l', folder]))
  return folder
}

t.test('a full disk', async t => {
  const dataDir = await smallDisk(t)
  if (!dataDir) {
    t.pass('a full disk', { skip: 'no small disk could be mounted: that takes root' })
    return
  }
  const { open, ended, heard } = await setResumableStage(t)
  const { create, patch, head, remove } = await open({ dataDir })

  const kept = await create(4 * MIB)
  t.match(await problemOf(create(8 * MIB)), { status: 507, code: 'storage_full' }, 'no room is left for it')
  await remove(kept)

  const film = Buffer.concat([clip, Buffer.alloc(6 * MIB)])
  const id = await create(film.length)
  await patch(id, 0, film.subarray(0, MIB))
  const hog = join(dataDir, 'hog')
  await run('sh', ['-c', `cat /dev/zero > ${hog} || true`]).catch(() => {})
  t.match(await problemOf(patch(id, MIB, film.subarray(MIB))), { status: 507, code: 'storage_full' })
  const offset = Number((await head(id)).headers['upload-offset'])
  t.equal(offset, (await stat(join(dataDir, 'spool', id))).size, 'what arrived is kept')
  t.ok(offset >= MIB)
  await run('rm', [hog])
  await patch(id, offset, film.subarray(offset))
  t.match(await ended(id), { state: 'ready' })
  t.match(heard(), [{ sha256: sha256(film) }])
})

t.test('instances that share a folder share a spool', async t => {
  const { openSpoolFolder } = await import('../../../src/services/uploads/spool-folder.ts')
  const facts = { get: async () => undefined, set: async () => {}, delete: async () => {} }
  const open = (dataDir: string) => openSpoolFolder({ dataDir, keepMs: 1_000, facts })
  const [one, other] = [await temporaryFolder(t), await temporaryFolder(t)]
  const spools = await Promise.all([open(one), open(one), open(one), open(other)])
  const ids = spools.map(({ id }) => id)
  t.equal(new Set(ids.slice(0, 3)).size, 1)
  t.not(ids[0], ids[3])
  await t.rejects(spools[0]!.read('../id'), { message: /Not the id/ })
})

t.test('a bucket is opened when one is configured', async t => {
  const { openSpool } = await import('../../../src/services/uploads/spool.ts')
  const facts = { get: async () => undefined, set: async () => {}, delete: async () => {} }
  const s3 = (bucket: string) => ({
    bucket,
    region: 'us-east-1',
    endpoint: 'http://127.0.0.1:9',
    credentials: { accessKeyId: 'id', secretAccessKey: 'secret' },
  })
  const open = (bucket: string) => openSpool({ dataDir: '/nowhere', s3: s3(bucket), keepMs: 1_000, facts })
  const [a, again, b] = [await open('a-bucket'), await open('a-bucket'), await open('b-bucket')]
  t.equal(a.id, again.id, 'all instances that name it share it')
  t.not(a.id, b.id)
  t.same(a.store.extensions, ['creation', 'creation-with-upload', 'termination', 'expiration'])
  t.equal(await a.freeBytes(), Number.POSITIVE_INFINITY)
})
