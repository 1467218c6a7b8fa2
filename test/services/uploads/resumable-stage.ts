import { randomUUIDv7 } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { Test } from 'tap'
import type { S3Config } from '../../../src/config.ts'
import { openDatabase } from '../../../src/db/client.ts'
import { createLocks } from '../../../src/db/locks.ts'
import { createJobs } from '../../../src/services/jobs/jobs.ts'
import { openResumable } from '../../../src/services/uploads/open-resumable.ts'
import type { TusAnswer } from '../../../src/services/uploads/tus.ts'
import { temporaryFolder } from '../../helpers/gateway.ts'
import { metadata } from '../../helpers/tus.ts'
import { setStage, until } from './stage.ts'

const MAX_BYTES = 10_000_000

/** Alice's project, and `open`: one more instance over the same database. */
export async function setResumableStage(t: Test, options: Parameters<typeof setStage>[1] = {}) {
  const stage = await setStage(t, options)
  const shared = await temporaryFolder(t)
  const { alice, project, errors } = stage
  const onError = (error: unknown) => errors.push(error)

  async function open({
    dataDir = shared,
    quotaBytes = 1_000_000_000,
    forwards = true,
    s3 = null as S3Config | null,
  } = {}) {
    const { url } = stage
    const database = openDatabase(url, () => {})
    const jobs = await createJobs({ url, onError })
    const locks = createLocks(url, onError)
    const resumable = await openResumable({
      ...stage,
      jobs,
      locks,
      config: {
        dataDir,
        uploads: { maxBytes: MAX_BYTES, spoolQuotaBytes: quotaBytes, s3 },
        runs: {
          limitMs: 1,
          silenceMs: 1,
          noticeMs: 1,
          silentEndMs: 1,
          reconcile: { firstMs: 20, everyMs: 20, reads: 3 },
        },
      },
      ...(options.limits && { limits: options.limits }),
      onError,
    })
    if (forwards) resumable.start()
    let closed: Promise<void> | undefined
    const close = () => {
      closed ??= (async () => {
        await resumable.stop()
        await jobs.stop()
        await locks.close()
        await database.close()
      })()
      return closed
    }
    t.teardown(close)

    const handle = (
      method: 'POST' | 'HEAD' | 'PATCH' | 'DELETE',
      more: object,
      body?: Buffer | Readable,
      id?: string,
    ) =>
      resumable.handle(alice, {
        method,
        projectId: project.id,
        ...(id && { uploadId: id }),
        headers: {
          'tus-resumable': '1.0.0',
          ...(body && { 'content-type': 'application/offset+octet-stream' }),
          ...more,
        },
        body: Buffer.isBuffer(body) ? Readable.from([body]) : (body ?? Readable.from([])),
      })
    const create = async (size: number, filename = 'clip.mp4'): Promise<string> => {
      const { headers } = await handle('POST', {
        'upload-length': String(size),
        'upload-metadata': metadata(filename),
      })
      return headers.location!.split('/').at(-1)!
    }
    const patch = (id: string, offset: number, body: Buffer | Readable): Promise<TusAnswer> =>
      handle('PATCH', { 'upload-offset': String(offset) }, body, id)
    return {
      resumable,
      locks,
      close,
      create,
      patch,
      head: (id: string) => handle('HEAD', {}, undefined, id),
      remove: (id: string) => handle('DELETE', {}, undefined, id),
      /** All of it at once. */
      async upload(bytes: Buffer, filename?: string): Promise<string> {
        const id = await create(bytes.length, filename)
        await patch(id, 0, bytes)
        return id
      },
    }
  }

  return {
    ...stage,
    open,
    dataDir: shared,
    spooled: async () => (await readdir(join(shared, 'spool'))).filter(name => name !== 'id'),
    spoolSize: async (id: string) => (await stat(join(shared, 'spool', id))).size,
    /** An upload once it has ended. */
    ended: (id: string) =>
      until(async () => {
        const upload = await stage.uploads.get(alice.userId, id)
        return (upload.state === 'ready' || upload.state === 'failed') && upload
      }),
    someId: () => randomUUIDv7(),
  }
}
