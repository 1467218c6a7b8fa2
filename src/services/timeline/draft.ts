export type TrackKind = 'video' | 'audio' | 'text' | 'unknown'

export interface Segment {
  startMs: number
  durationMs: number
  title?: string
  text?: string
  /** 1 is full volume. */
  volume?: number
}

export interface Track {
  kind: TrackKind
  segments: Segment[]
}

export interface Timeline {
  tracks: Track[]
  durationMs: number
  exportable: boolean
}

// What a client is sent and a diff has to walk; a real draft stays far below.
const MAX_TRACKS = 64
const MAX_SEGMENTS = 2_000
const MAX_TEXT = 500
const MAX_MS = 24 * 60 * 60 * 1000
const MAX_VOLUME = 4

const KINDS = new Map<unknown, TrackKind>([
  [0, 'video'],
  [1, 'audio'],
  [7, 'text'],
])

/**
 * The timeline as far as a draft tells it (upstream-contract §3); times in ms. Never throws: what cannot
 * be read is left out. `raw` is the draft's JSON text as received, or the XML form, of which only
 * `exportable` is decoded.
 */
export function decodeDraft(raw: string | null): Timeline {
  const draft = parse(raw)
  if (typeof draft === 'string') return { tracks: [], durationMs: 0, exportable: hasSegmentElement(draft) }
  const sources = list(field(draft, 't'))
  const tracks: Track[] = []
  let room = MAX_SEGMENTS
  for (const source of sources.slice(0, MAX_TRACKS)) {
    if (!isObject(source)) continue
    const track = decodeTrack(source, room)
    room -= track.segments.length
    tracks.push(track)
  }
  const ends = tracks.flatMap(track => track.segments.map(segment => segment.startMs + segment.durationMs))
  return {
    tracks,
    durationMs: ends.reduce((longest, end) => Math.max(longest, end), 0),
    exportable: sources.some(source => list(field(source, 'sg')).length > 0),
  }
}

function decodeTrack(source: object, room: number): Track {
  const kind = KINDS.get(field(source, 'tt')) ?? 'unknown'
  const segments: Segment[] = []
  let position = 0
  for (const item of list(field(source, 'sg'))) {
    if (segments.length === room) break
    if (!isObject(item)) continue
    const segment = decodeSegment(kind, item, position)
    position = Math.min(segment.startMs + segment.durationMs, MAX_MS)
    segments.push(segment)
  }
  return { kind, segments }
}

function decodeSegment(kind: TrackKind, item: object, position: number): Segment {
  const places = [item, field(item, 'm')]
  const startMs = milliseconds(firstNumber(places, ['start', 's', 'st']) ?? position)
  const durationMs = Math.min(milliseconds(firstNumber([item], ['d']) ?? 0), MAX_MS - startMs)
  const title = firstText(places, ['title', 'name'])
  const text = kind === 'text' ? (firstText(places, ['text', 'content']) ?? title) : undefined
  const volume = kind === 'text' ? undefined : firstNumber(places, ['volume', 'v'])
  return {
    startMs,
    durationMs,
    ...(title !== undefined && title !== text && { title }),
    ...(text !== undefined && { text }),
    ...(volume !== undefined && { volume: factor(volume) }),
  }
}

/** An object, a string that is XML, or undefined. A draft may be JSON inside a JSON string. */
function parse(raw: string | null): unknown {
  let value: unknown = raw
  for (let layer = 0; layer < 3 && typeof value === 'string'; layer++) {
    if (/^\s*<draft\b/i.test(value)) return value
    try {
      value = JSON.parse(value)
    } catch {
      return undefined
    }
  }
  return typeof value === 'string' ? undefined : value
}

function hasSegmentElement(xml: string): boolean {
  return /<(?:segment|seg|sg|clip)[\s/>]/i.test(xml)
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function field(value: unknown, key: string): unknown {
  return isObject(value) ? (value as Record<string, unknown>)[key] : undefined
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

function firstNumber(places: readonly unknown[], keys: readonly string[]): number | undefined {
  for (const place of places)
    for (const key of keys) {
      const value = field(place, key)
      if (typeof value === 'number' && Number.isFinite(value)) return value
    }
  return undefined
}

function firstText(places: readonly unknown[], keys: readonly string[]): string | undefined {
  for (const place of places)
    for (const key of keys) {
      const value = field(place, key)
      const text = typeof value === 'string' ? clean(value) : ''
      if (text !== '') return text
    }
  return undefined
}

// Direction overrides could make a title rewrite the sentence it is quoted in.
function clean(text: string): string {
  const bounded = text.slice(0, MAX_TEXT * 4).replace(/(?!\n)[\p{Cc}\u202a-\u202e\u2066-\u2069]+/gu, ' ')
  return bounded.trim().slice(0, MAX_TEXT).toWellFormed()
}

function milliseconds(value: number): number {
  return Math.round(Math.min(Math.max(value, 0), MAX_MS))
}

// 0.35 and 35 both occur in editors for 35 %; no editor amplifies more than fourfold.
function factor(volume: number): number {
  const value = volume > MAX_VOLUME ? volume / 100 : volume
  return Math.round(Math.min(Math.max(value, 0), MAX_VOLUME) * 1000) / 1000
}
