import type { Readable } from 'node:stream'
import type { DataStore, KvStore, Upload } from '@tus/server'
import type { S3Config } from '../../config.ts'

/** Where resumable uploads are kept until they have been forwarded: a file of the upload's id for each. */
export interface Spool {
  /** Which one it is: an upload is continued and forwarded only where its spool can be reached. */
  id: string
  /** What @tus/server writes to. */
  store: DataStore
  read(id: string): Promise<Readable>
  /** Makes sure that a file outlives a power cut. */
  settle(id: string): Promise<void>
  /** How much of a file is there; null when it is gone. */
  size(id: string): Promise<number | null>
  /** No error when it is gone already. */
  remove(id: string): Promise<void>
  freeBytes(): Promise<number>
  /** Files that have not been touched for `quietMs`. */
  quiet(quietMs: number): Promise<string[]>
}

/** What @tus/server asks of an upload, answered from its row. */
export type UploadFacts = KvStore<Upload>

/** The spool of the configuration: a bucket, or the folder `spool` under `dataDir`. */
export async function openSpool(options: {
  dataDir: string
  s3: S3Config | null
  keepMs: number
  facts: UploadFacts
}): Promise<Spool> {
  // The SDK for S3 is large and optional.
  if (options.s3) return (await import('./spool-s3.ts')).openS3Spool({ ...options, s3: options.s3 })
  return (await import('./spool-folder.ts')).openSpoolFolder(options)
}
