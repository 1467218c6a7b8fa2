/** Track types of the draft (§3). */
export const VIDEO = 0
export const AUDIO = 1
export const TEXT = 7

export interface Segment {
  id: string
  title: string
  durationMs: number
  /** of sound, 0 to 1 */
  volume?: number
  width?: number
  height?: number
}

export interface Track {
  kind: typeof VIDEO | typeof AUDIO | typeof TEXT
  /** what the track holds, so that a second title replaces the first */
  role: 'clips' | 'music' | 'title' | 'subtitles' | 'text'
  segments: Segment[]
}

/** One thing that happens to a draft: what the story decides, and what waits in a session until its time. */
export type Change =
  | { kind: 'clip'; title: string; durationMs: number; width: number; height: number }
  | { kind: 'sound'; title: string; durationMs: number }
  | { kind: 'music'; title: string; volume: number }
  | { kind: 'title'; title: string }
  | { kind: 'text'; text: string }
  | { kind: 'subtitles'; lines: string[] }
  | { kind: 'trim'; toMs: number }
  | { kind: 'remove'; role: Track['role'] }

/** in ms */
export function durationOf(track: Track): number {
  return track.segments.reduce((sum, segment) => sum + segment.durationMs, 0)
}

/** The length of the pictures, in ms; of whatever there is when there are none. */
export function lengthOf(tracks: Track[]): number {
  const pictures = tracks.filter(track => track.kind === VIDEO)
  return Math.max(0, ...(pictures.length > 0 ? pictures : tracks).map(durationOf))
}

/** The tracks after `change`; the given ones are left alone. */
export function applyChange(tracks: Track[], change: Change): Track[] {
  const length = lengthOf(tracks) || 10_000
  switch (change.kind) {
    case 'clip': {
      const { title, durationMs, width, height } = change
      return put(tracks, VIDEO, 'clips', [{ id: 'clip', title, durationMs, width, height }])
    }
    case 'sound':
      return put(tracks, AUDIO, 'music', [
        { id: 'sound', title: change.title, durationMs: change.durationMs },
      ])
    case 'music':
      return put(tracks, AUDIO, 'music', [
        { id: 'bgm', title: change.title, durationMs: length, volume: change.volume },
      ])
    case 'title':
      return put(tracks, TEXT, 'title', [
        { id: 'title', title: change.title, durationMs: Math.min(3000, length) },
      ])
    case 'text':
      return put(tracks, TEXT, 'text', [{ id: 'text', title: change.text, durationMs: length }])
    case 'subtitles': {
      const each = Math.floor(length / change.lines.length)
      return put(
        tracks,
        TEXT,
        'subtitles',
        change.lines.map((title, i) => ({ id: `sub${i + 1}`, title, durationMs: each })),
      )
    }
    case 'trim':
      return tracks.map(track => ({ ...track, segments: cut(track.segments, change.toMs) }))
    case 'remove':
      return tracks.filter(track => track.role !== change.role)
  }
}

function put(tracks: Track[], kind: Track['kind'], role: Track['role'], segments: Segment[]): Track[] {
  const track: Track = { kind, role, segments }
  const at = tracks.findIndex(other => other.role === role)
  return at < 0 ? [...tracks, track] : tracks.with(at, track)
}

function cut(segments: Segment[], toMs: number): Segment[] {
  let left = toMs
  return segments.flatMap(segment => {
    const durationMs = Math.min(segment.durationMs, left)
    left -= durationMs
    return durationMs > 0 ? [{ ...segment, durationMs }] : []
  })
}

/**
 * The draft as JSON text (§3). Numbers such as `1.0` and the 19-digit `did`, and the escaped slash, do not
 * survive a parse and a stringify: who re-builds a draft instead of passing it on is found out.
 */
export function writeDraft(tracks: Track[], title: string, revision: number): string {
  const did = 7341829405512345600n + BigInt(revision)
  const meta = JSON.stringify({ title, width: 1920, height: 1080 })
  return `{"ver":1.0,"did":${did},"t":[${tracks.map(writeTrack).join(',')}],"d":${Math.max(0, ...tracks.map(durationOf))},"m":${meta},"ext":{"src":"nemo\\/multitrack","gain":1E0,"lang":null}}`
}

function writeTrack(track: Track, index: number): string {
  return `{"tid":"t${index}","tt":${track.kind},"sg":[${track.segments.map(s => writeSegment(s, track.kind)).join(',')}],"mute":false}`
}

function writeSegment({ id, title, durationMs, ...more }: Segment, kind: Track['kind']): string {
  const meta = JSON.stringify({ title, ...(kind === TEXT ? { text: title } : {}), ...more })
  return `{"sid":"${id}","d":${durationMs},"sp":1.0,"m":${meta}}`
}

/** Whether a render may be made of it: a track with a segment (§3), or the XML form. */
export function isExportable(draft: unknown): boolean {
  if (typeof draft === 'string') return draft.startsWith('<draft')
  const tracks = (draft as { t?: unknown } | null)?.t
  return Array.isArray(tracks) && tracks.some(track => Array.isArray(track?.sg) && track.sg.length > 0)
}
