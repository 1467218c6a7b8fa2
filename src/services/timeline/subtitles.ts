import type { Segment, Timeline } from './draft.ts'

export type SubtitleFormat = 'srt' | 'vtt'

/** The text tracks as a subtitle file: cues by their start, also where tracks overlap. */
export function subtitles(timeline: Timeline, format: SubtitleFormat): string {
  const cues = timeline.tracks
    .filter(track => track.kind === 'text')
    .flatMap(track => track.segments)
    .map(segment => ({ ...segment, lines: linesOf(segment) }))
    .filter(({ durationMs, lines }) => durationMs > 0 && lines.length > 0)
    .sort((a, b) => a.startMs - b.startMs || a.durationMs - b.durationMs)
  const comma = format === 'srt' ? ',' : '.'
  const safe = format === 'srt' ? unarrowed : escaped
  const blocks = cues.map(({ startMs, durationMs, lines }, index) =>
    [
      index + 1,
      `${timestamp(startMs, comma)} --> ${timestamp(startMs + durationMs, comma)}`,
      ...lines.map(safe),
    ].join('\n'),
  )
  const header = format === 'vtt' ? ['WEBVTT'] : []
  return [...header, ...blocks].map(block => `${block}\n`).join('\n')
}

/** An empty line would end the cue, and what follows it would be read as the next one. */
function linesOf({ text, title }: Segment): string[] {
  return (text ?? title ?? '')
    .split(/[\r\n\u2028\u2029\0]+/)
    .map(line => line.trim())
    .filter(Boolean)
}

/** SRT knows no escape; an arrow in a text must not look like a time line. */
const unarrowed = (line: string) => line.replaceAll('-->', '→')
const escaped = (line: string) =>
  line.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

/** `01:02:03,450` */
function timestamp(ms: number, comma: string): string {
  const whole = Math.round(ms)
  const two = (n: number) => String(Math.floor(n)).padStart(2, '0')
  const clock = [whole / 3_600_000, (whole / 60_000) % 60, (whole / 1000) % 60].map(two).join(':')
  return `${clock}${comma}${String(whole % 1000).padStart(3, '0')}`
}
