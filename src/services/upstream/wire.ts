import { createHash } from 'node:crypto'
import { isId } from './checks.ts'
import { amountField, cleanText, field, isObject, type JsonObject, textField } from './fields.ts'
import { rawMember } from './raw-json.ts'

export interface Media {
  /** Ours: a hash that stays the same between reads. The upstream's link never leaves this folder. */
  id: string
  kind: 'video' | 'image' | 'audio' | 'unknown'
  name: string
  durationMs?: number
  width?: number
  height?: number
}

export interface ProjectState {
  /** The draft's JSON text exactly as received (§3), or null. */
  draft: string | null
  media: Media[]
  /** Equal for two reads if and only if neither the draft nor the media changed. */
  fingerprint: string
}

export interface RenderState {
  status: 'pending' | 'processing' | 'completed' | 'failed'
  /** 0 to 100. */
  progress: number | null
  url: string | null
  bytes: number | null
  durationMs: number | null
}

const MAX_NAME = 255
const MAX_MEDIA = 1000
const CLAIM_TOKEN = /^[A-Za-z0-9_.~-]{1,512}$/
const WEEK_SECONDS = 7 * 24 * 60 * 60

const RENDER_STATUS: Record<string, RenderState['status']> = {
  pending: 'pending',
  queued: 'pending',
  processing: 'processing',
  rendering: 'processing',
  completed: 'completed',
  failed: 'failed',
  error: 'failed',
  cancelled: 'failed',
  canceled: 'failed',
}

/** §2.1, with the token inside `data` or at top level. Null when there is none. */
export function decodeMint(
  json: JsonObject,
): { token: string; userId: string | null; expiresAt: Date | null } | null {
  const holder = field(field(json, 'data'), 'token') === undefined ? json : field(json, 'data')
  const token = textField(holder, 'token')
  if (token === null) return null
  const userId = field(holder, 'user_id')
  const expiresAt = new Date(textField(holder, 'expires_at') ?? Number.NaN)
  return {
    token,
    userId: isId(userId) ? userId : null,
    expiresAt: Number.isNaN(expiresAt.getTime()) ? null : expiresAt,
  }
}

/** §2.2. The link carries the claim token only: an access token in its place is refused. */
export function decodeClaim(json: JsonObject, webUrl: string): { url: string; expiresInMs: number } | null {
  const token = textField(field(json, 'data') ?? json, 'claim_token')
  if (token === null || !CLAIM_TOKEN.test(token) || token.startsWith('nmv_')) return null
  const seconds = amountField(field(json, 'data') ?? json, 'expires_in') ?? WEEK_SECONDS
  return { url: `${webUrl}/workspace/claim?ct=${encodeURIComponent(token)}`, expiresInMs: seconds * 1000 }
}

/** §2.3. Ids are read from the text: as a number a session id is above 2^53 and would be rounded (§0.5). */
export function decodeSession(
  text: string,
): { taskId: string; sessionId: string; userId: string | null } | null {
  const taskId = rawId(text, 'task_id')
  const sessionId = rawId(text, 'session_id')
  if (taskId === null || sessionId === null) return null
  return { taskId, sessionId, userId: rawId(text, 'user_id') }
}

function rawId(text: string, name: string): string | null {
  const raw = rawMember(text, ['data', name]) ?? rawMember(text, [name])
  const id = raw?.startsWith('"') ? JSON.parse(raw) : raw
  return isId(id) && id !== 'null' ? id : null
}

/** §2.5: the files the upstream took, durations from seconds to ms. Null when the list is missing. */
export function decodeUpload(json: JsonObject): Media[] | null {
  const files = field(field(json, 'data'), 'files') ?? field(json, 'files')
  return Array.isArray(files) ? decodeMedia(files) : null
}

/** §2.6. `total` is the sum when it is missing. */
export function decodeCredits(json: JsonObject): { available: number; frozen: number; total: number } | null {
  const data = field(json, 'data') ?? json
  const available = amountField(data, 'available')
  if (available === null) return null
  const frozen = amountField(data, 'frozen') ?? 0
  return { available, frozen, total: amountField(data, 'total') ?? available + frozen }
}

/** §2.7, any key missing or null. `text` is the body that `json` was parsed from. Null when it is no state. */
export function decodeState(json: JsonObject, text: string): ProjectState | null {
  const inData = isObject(field(json, 'data'))
  const holder = inData ? field(json, 'data') : json
  if (!isObject(holder) || (!inData && !Object.hasOwn(json, 'state'))) return null
  const path = inData ? ['data', 'state'] : ['state']
  const raw = (key: string) => rawMember(text, [...path, key]) ?? 'null'

  const draft = raw('draft')
  const state = field(holder, 'state')
  const media = [...decodeMedia(field(state, 'video_infos')), ...decodeMedia(field(state, 'generated_media'))]
  const unique = [...new Map(media.map(item => [item.id, item])).values()].slice(0, MAX_MEDIA)
  const hash = createHash('sha256')
  for (const part of [
    draft,
    JSON.stringify(unique),
    unsigned(raw('video_infos')),
    unsigned(raw('generated_media')),
  ]) {
    hash.update(`${part.length}:`).update(part)
  }
  return { draft: draft === 'null' ? null : draft, media: unique, fingerprint: hash.digest('hex') }
}

/** §2.8, shapes A and B. Null when the status is missing or unknown. */
export function decodeRender(json: JsonObject): RenderState | null {
  const data = isObject(field(json, 'data')) ? field(json, 'data') : json
  const word = textField(data, 'status')?.toLowerCase() ?? ''
  const status = Object.hasOwn(RENDER_STATUS, word) ? RENDER_STATUS[word]! : null
  if (status === null) return null
  const output = field(data, 'output')
  const progress = amountField(data, 'progress')
  const seconds = amountField(output, 'duration') ?? amountField(data, 'duration')
  return {
    status,
    progress: progress === null ? null : Math.min(progress, 100),
    url: decodeFileUrl(json),
    bytes: amountField(output, 'size') ?? amountField(data, 'size'),
    durationMs: seconds === null ? null : Math.round(seconds * 1000),
  }
}

/** Where a finished file lies, as §2.8 and §2.9 spell it; only http and https. */
export function decodeFileUrl(json: JsonObject): string | null {
  const data = isObject(field(json, 'data')) ? field(json, 'data') : json
  const output = field(data, 'output')
  const url =
    typeof output === 'string'
      ? output
      : (textField(output, 'url') ?? textField(data, 'outputUrl', 'output_url', 'url'))
  return url !== null && /^https?:$/.test(URL.parse(url)?.protocol ?? '') ? url : null
}

function decodeMedia(value: unknown): Media[] {
  const entries = Array.isArray(value) ? value : isObject(value) ? Object.values(value).flat() : []
  return entries.filter(isObject).slice(0, MAX_MEDIA).map(decodeMedium)
}

function decodeMedium(entry: JsonObject): Media {
  const url = textField(entry, 'cdn_url', 'url', 'video_url', 'file_url')
  const path = url === null ? null : url.replace(/[?#].*$/s, '')
  const name = (
    textField(entry, 'filename', 'file_name', 'name', 'title') ??
    path?.split('/').at(-1) ??
    ''
  ).slice(0, MAX_NAME)
  const seconds = amountField(entry, 'duration')
  const kind = mediaKind(textField(entry, 'file_type', 'type', 'media_type') ?? '', name)
  // The link without its signature, which changes from read to read.
  const identity = path ?? textField(entry, 'hash', 'id') ?? JSON.stringify([kind, name, seconds])
  const width = amountField(entry, 'width')
  const height = amountField(entry, 'height')
  return {
    id: createHash('sha256').update(identity).digest('hex').slice(0, 32),
    kind,
    name: cleanText(name),
    ...(seconds !== null && { durationMs: Math.round(seconds * 1000) }),
    ...(width !== null && { width }),
    ...(height !== null && { height }),
  }
}

function mediaKind(type: string, name: string): Media['kind'] {
  const word = /^(video|image|audio)/i.exec(type)?.[1]?.toLowerCase()
  if (word !== undefined) return word as Media['kind']
  if (/\.(mp4|mov|avi|webm|mkv)$/i.test(name)) return 'video'
  if (/\.(jpe?g|png|gif|webp)$/i.test(name)) return 'image'
  return /\.(mp3|wav|m4a|aac)$/i.test(name) ? 'audio' : 'unknown'
}

/** Links lose their query, where signatures and expiry times change without any change of the media. */
function unsigned(json: string): string {
  return json.replace(/("https?:[^"?]*)\?[^"]*"/g, '$1"')
}
