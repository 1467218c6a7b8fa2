import { join } from 'node:path'
import type { S3Config } from '../../config.ts'
import type { RenderFile } from '../upstream/client.ts'
import type { Conditions } from './conditions.ts'

/** Copies of finished films, each named by its render's id. */
export interface Copies {
  /** Writes a film down; it is there whole or not at all. Rejects when the stream breaks off or there is no room. */
  keep(id: string, film: Pick<RenderFile, 'body' | 'bytes'>): Promise<void>
  /** A part of the copy, or all of it, as the upstream would answer; null when there is none here. */
  open(id: string, conditions: Conditions): Promise<RenderFile | null>
  /** Removes the copies that `wanted` leaves out, and what was never finished. */
  sweep(wanted: (ids: string[]) => Promise<string[]>): Promise<void>
}

/** How old the beginning of a copy must be to have been given up. */
export const UNFINISHED_MS = 24 * 3_600_000

/** The copies of the configuration: in a bucket, or in the folder `renders` under `dataDir`. */
export async function openCopies({ dataDir, s3 }: { dataDir: string; s3: S3Config | null }): Promise<Copies> {
  // The SDK for S3 is large and optional.
  if (s3) return (await import('./copies-s3.ts')).openS3Copies(s3)
  return (await import('./copies-folder.ts')).createCopies(join(dataDir, 'renders'))
}
