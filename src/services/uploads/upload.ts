import type { UploadRow } from '../../db/uploads.ts'
import type { Problem } from '../../problems.ts'
import type { Media } from '../upstream/client.ts'

/** An upload as clients see it. `mediaType` and `bytes` are null while they are not known. */
export interface Upload {
  id: string
  projectId: string
  state: 'receiving' | 'forwarding' | 'ready' | 'failed'
  filename: string
  mediaType: string | null
  bytes: number | null
  bytesForwarded: number
  media?: UploadedMedia
  problem?: Problem
}

export interface UploadedMedia {
  kind: Media['kind']
  durationMs?: number
  width?: number
  height?: number
}

export function toUpload(row: UploadRow): Upload {
  const { id, projectId, state, filename, mediaType, bytes, bytesForwarded, media, problem } = row
  return {
    id,
    projectId,
    state,
    filename,
    mediaType,
    bytes,
    bytesForwarded,
    ...(media ? { media: media as UploadedMedia } : {}),
    ...(problem ? { problem } : {}),
  }
}

export function uploadedMedia({ kind, durationMs, width, height }: Media): UploadedMedia {
  return {
    kind,
    ...(durationMs !== undefined && { durationMs }),
    ...(width !== undefined && { width }),
    ...(height !== undefined && { height }),
  }
}
