import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { S3Store } from '@tus/s3-store'
import type { S3Config } from '../../config.ts'
import { connectionOf } from '../s3.ts'
import type { Spool } from './spool.ts'

/** A bucket that all instances share. Its objects are named by ids; how long they stay is up to the gateway. */
export function openS3Spool({ s3, keepMs }: { s3: S3Config; keepMs: number }): Spool {
  const { bucket, region, endpoint } = s3
  const store = new BucketStore({
    expirationPeriodInMilliseconds: keepMs,
    // Tags are not known to every service that speaks S3.
    useTags: false,
    s3ClientConfig: { bucket, ...connectionOf(s3) },
  })
  store.extensions = ['creation', 'creation-with-upload', 'termination', 'expiration']
  return {
    id: createHash('sha256').update(`${endpoint}/${region}/${bucket}`).digest('hex').slice(0, 16),
    store,
    read: async id => (await store.read(id)) as Readable,
    settle: async () => {},
    async size(id) {
      try {
        return (await store.getUpload(id)).offset
      } catch (error) {
        if (isMissing(error)) return null
        throw error
      }
    },
    remove: id => store.remove(id),
    freeBytes: async () => Number.POSITIVE_INFINITY,
    // What has lost its row cannot be told from the objects of others; a lifecycle rule of the bucket sees to it.
    quiet: async () => [],
  }
}

class BucketStore extends S3Store {
  /** The library's own leaves a whole file behind, because its multipart upload is gone, and every unfinished part. */
  override async remove(id: string): Promise<void> {
    await super.remove(id).catch(error => {
      if (!isMissing(error)) throw error
    })
    const keys = [id, this.infoKey(id), this.partKey(id, true)]
    await this.client.deleteObjects({
      Bucket: this.bucket,
      Delete: { Objects: keys.map(Key => ({ Key })) },
    })
    await this.clearCache(id)
  }
}

function isMissing(error: unknown): boolean {
  const { status_code, name } = error as { status_code?: number; name?: string }
  return status_code === 404 || status_code === 410 || name === 'NoSuchKey' || name === 'NotFound'
}
