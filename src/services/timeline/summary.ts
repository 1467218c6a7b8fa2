import { type Language, words } from '../words.ts'
import type { Segment, Timeline, TrackKind } from './draft.ts'

const LISTED_TRACKS = 12
const LISTED_SEGMENTS = 5
const SHOWN_TEXT = 60

/** One line about the timeline, in the wording of upstream-contract §3. */
export function summarise(timeline: Timeline, language: Language): string {
  const say = words[language].summary
  const { tracks } = timeline
  if (tracks.every(track => track.segments.length === 0)) return timeline.exportable ? say.opaque : say.empty
  const lines = tracks.slice(0, LISTED_TRACKS).map(({ kind, segments }, index) => {
    const items = segments
      .slice(0, LISTED_SEGMENTS)
      .map((segment, i) => nameOf(kind, segment, i, language) + detailsOf(segment, language))
    if (segments.length > LISTED_SEGMENTS) items.push(say.more(segments.length - LISTED_SEGMENTS))
    return `${index + 1}. ${say.label(say.track[kind])}${items.join(say.separator) || say.emptyTrack}`
  })
  if (tracks.length > LISTED_TRACKS) lines.push(say.more(tracks.length - LISTED_TRACKS))
  return say.heading(tracks.length) + lines.join(' ')
}

/** `0-10s`, `2.5-4s` */
export function spanOf(segment: Segment, language: Language): string {
  const { startMs, durationMs } = segment
  return words[language].summary.span(seconds(startMs), seconds(startMs + durationMs))
}

/** At most 60 characters on one line. */
export function shorten(text: string): string {
  const characters = [...text.replace(/\s+/g, ' ')]
  return characters.length > SHOWN_TEXT
    ? `${characters.slice(0, SHOWN_TEXT - 1).join('')}…`
    : characters.join('')
}

/** `35%` */
export function percent(volume: number): string {
  return `${Math.round(volume * 100)}%`
}

function nameOf(kind: TrackKind, segment: Segment, index: number, language: Language): string {
  if (segment.text !== undefined) return `"${shorten(segment.text)}"`
  return segment.title === undefined
    ? words[language].summary.unnamed[kind](index + 1)
    : shorten(segment.title)
}

function detailsOf(segment: Segment, language: Language): string {
  const parts = [spanOf(segment, language)]
  if (segment.volume !== undefined && segment.volume !== 1) parts.push(percent(segment.volume))
  return words[language].summary.details(parts)
}

function seconds(ms: number): string {
  return String(Math.round(ms / 10) / 100)
}
