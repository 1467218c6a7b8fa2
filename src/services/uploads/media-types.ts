import { fileTypeFromBuffer } from 'file-type'

export type MediaKind = 'video' | 'image' | 'audio'

interface MediaType {
  extension: string
  otherExtensions?: readonly string[]
  mediaType: string
  kind: MediaKind
  /** What browsers declare, or file-type finds, for the same thing. */
  aliases: readonly string[]
}

/** How much of a file's beginning is enough to tell what it is, in bytes. */
export const HEAD_BYTES = 4_100

/** What the upstream takes (upstream-contract §2.5). */
const TYPES: readonly MediaType[] = [
  { extension: 'mp4', mediaType: 'video/mp4', kind: 'video', aliases: ['video/x-m4v', 'application/mp4'] },
  { extension: 'mov', mediaType: 'video/quicktime', kind: 'video', aliases: [] },
  {
    extension: 'avi',
    mediaType: 'video/x-msvideo',
    kind: 'video',
    aliases: ['video/vnd.avi', 'video/avi', 'video/msvideo'],
  },
  { extension: 'webm', mediaType: 'video/webm', kind: 'video', aliases: [] },
  { extension: 'mkv', mediaType: 'video/x-matroska', kind: 'video', aliases: ['video/matroska'] },
  {
    extension: 'jpg',
    otherExtensions: ['jpeg'],
    mediaType: 'image/jpeg',
    kind: 'image',
    aliases: ['image/jpg', 'image/pjpeg'],
  },
  { extension: 'png', mediaType: 'image/png', kind: 'image', aliases: ['image/x-png', 'image/apng'] },
  { extension: 'gif', mediaType: 'image/gif', kind: 'image', aliases: [] },
  { extension: 'webp', mediaType: 'image/webp', kind: 'image', aliases: [] },
  {
    extension: 'mp3',
    mediaType: 'audio/mpeg',
    kind: 'audio',
    aliases: ['audio/mp3', 'audio/x-mp3', 'audio/x-mpeg'],
  },
  {
    extension: 'wav',
    mediaType: 'audio/wav',
    kind: 'audio',
    aliases: ['audio/x-wav', 'audio/wave', 'audio/vnd.wave'],
  },
  // Recorders on Android write m4a files with the brand of an mp4 video.
  {
    extension: 'm4a',
    mediaType: 'audio/mp4',
    kind: 'audio',
    aliases: ['audio/x-m4a', 'audio/m4a', 'video/mp4'],
  },
  {
    extension: 'aac',
    mediaType: 'audio/aac',
    kind: 'audio',
    aliases: ['audio/x-aac', 'audio/aacp', 'audio/x-hx-aac-adts', 'audio/vnd.dlna.adts'],
  },
]

const BY_EXTENSION = new Map(
  TYPES.flatMap(type =>
    [type.extension, ...(type.otherExtensions ?? [])].map(extension => [extension, type] as const),
  ),
)

/** The extensions that a client may offer for upload, without the dot. */
export const ACCEPTED: readonly string[] = [...BY_EXTENSION.keys()]

export type MediaTypeResult =
  | { ok: true; mediaType: string; extension: string; kind: MediaKind }
  | { ok: false }

/** The type on which a file's name and its declared type agree, before a byte of it is there. */
export function mediaTypeOfName(file: { filename: string; declared: string }): MediaTypeResult {
  const type = BY_EXTENSION.get(/\.([a-z0-9]{2,4})$/i.exec(file.filename)?.[1]?.toLowerCase() ?? '')
  if (type === undefined) return { ok: false }
  const declared = file.declared.split(';', 1)[0]!.trim().toLowerCase()
  if (declared !== '' && declared !== 'application/octet-stream' && !covers(type, declared))
    return { ok: false }
  return { ok: true, mediaType: type.mediaType, extension: type.extension, kind: type.kind }
}

/**
 * The type on which a file's name, its declared type and its first bytes agree. `head` holds the first
 * HEAD_BYTES, or the whole file if it is shorter. Never throws.
 */
export async function mediaTypeOf(file: {
  filename: string
  declared: string
  head: Uint8Array
}): Promise<MediaTypeResult> {
  const named = mediaTypeOfName(file)
  if (!named.ok) return named
  const found = await fileTypeFromBuffer(file.head).catch(() => undefined)
  const type = BY_EXTENSION.get(named.extension)!
  return found !== undefined && covers(type, found.mime) ? named : { ok: false }
}

function covers(type: MediaType, name: string): boolean {
  return type.mediaType === name || type.aliases.includes(name)
}
