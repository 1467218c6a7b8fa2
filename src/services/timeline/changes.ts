import { type Language, words } from '../words.ts'
import { diffState } from './diff.ts'
import type { Segment, Timeline, TrackKind } from './draft.ts'
import { percent, shorten, spanOf } from './summary.ts'

export interface MediaItem {
  id: string
  name: string
}

interface Entry {
  segment: Segment
  /** Counted from 1 within its kind; names what has no title. */
  position: number
}

type Pair = readonly [before: Entry, after: Entry]

const KINDS: readonly TrackKind[] = ['text', 'video', 'audio', 'unknown']
const LISTED = 3
const MAX_PARTS = 6

/**
 * What an edit did, in words, or null when nothing changed: `Title added: “Urban Dreams” (0-3s)`.
 * About 30 % of edits end without a text of their own (upstream-contract §0).
 */
export function describeChanges(
  before: Timeline,
  after: Timeline,
  language: Language,
  media?: { before: readonly MediaItem[]; after: readonly MediaItem[] },
): string | null {
  const say = words[language].changes
  const parts = KINDS.flatMap(kind => changesOf(kind, before, after, language))
  const known = new Set(media?.before.map(item => item.id))
  const fresh = media?.after.filter(item => !known.has(item.id)) ?? []
  if (fresh.length > 0) {
    const names = fresh.slice(0, LISTED).map(item => shorten(item.name))
    parts.push(say.mediaAdded(names, fresh.length - names.length))
  }
  if (parts.length === 0) return diffState(before, after).length === 0 ? null : say.other
  const listed = parts.slice(0, MAX_PARTS)
  if (parts.length > listed.length) listed.push(say.more(parts.length - listed.length))
  return listed.join(say.separator)
}

function changesOf(kind: TrackKind, before: Timeline, after: Timeline, language: Language): string[] {
  const say = words[language].changes
  const name = say.kind[kind]
  const label = (entry: Entry) => labelOf(kind, entry, language)
  const matched = match(entriesOf(before, kind), entriesOf(after, kind))
  const [replaced, removed, added] = pairInPlace(matched.removed, matched.added)
  const parts = replaced.map(([from, to]) => say.replaced(name, label(from), label(to)))
  if (added.length > LISTED) parts.push(say.addedMany(kind, added.length))
  else for (const entry of added) parts.push(say.added(name, label(entry) + detailsOf(entry, language)))
  if (removed.length > LISTED) parts.push(say.removedMany(kind, removed.length))
  else for (const entry of removed) parts.push(say.removed(name, label(entry)))

  let shifted = added.length + removed.length > 0
  for (const pair of matched.pairs) {
    const [from, to] = pair.map(entry => spanOf(entry.segment, language)) as [string, string]
    const [was, is] = pair.map(entry => entry.segment) as [Segment, Segment]
    const loud = [was, is].map(segment => percent(segment.volume ?? 1)) as [string, string]
    if (loud[0] !== loud[1]) parts.push(say.volume(name, label(pair[1]), ...loud))
    if (from === to) continue
    // What moved only because an earlier one changed its length is not worth a sentence.
    if (was.durationMs !== is.durationMs) {
      parts.push(say.trimmed(name, label(pair[1]), from, to))
      shifted = true
    } else if (!shifted) parts.push(say.moved(name, label(pair[1]), from, to))
  }
  return parts
}

/** Pairs what is the same on both sides: first what is equal in all, then what has the same name. */
function match(before: readonly Entry[], after: readonly Entry[]) {
  const pairs: Pair[] = []
  let removed = before
  let added = after
  for (const keyOf of [exactKey, nameKey]) {
    const waiting = Map.groupBy(removed, keyOf)
    const unmatched: Entry[] = []
    const taken = new Set<Entry>()
    for (const queue of waiting.values()) queue.reverse()
    for (const entry of added) {
      const partner = waiting.get(keyOf(entry))?.pop()
      if (partner === undefined) unmatched.push(entry)
      else {
        taken.add(partner)
        pairs.push([partner, entry])
      }
    }
    removed = removed.filter(entry => !taken.has(entry))
    added = unmatched
  }
  return { pairs: pairs.sort((a, b) => a[1].position - b[1].position), removed, added }
}

/** What went and what came at the same moment of the same kind is one change. */
function pairInPlace(removed: readonly Entry[], added: readonly Entry[]): [Pair[], Entry[], Entry[]] {
  const gone = new Map(removed.map(entry => [entry.segment.startMs, entry]))
  const pairs: Pair[] = []
  const fresh: Entry[] = []
  for (const entry of added) {
    const partner = gone.get(entry.segment.startMs)
    if (partner === undefined) fresh.push(entry)
    else {
      gone.delete(entry.segment.startMs)
      pairs.push([partner, entry])
    }
  }
  const replaced = new Set(pairs.map(([entry]) => entry))
  return [pairs, removed.filter(entry => !replaced.has(entry)), fresh]
}

function entriesOf(timeline: Timeline, kind: TrackKind): Entry[] {
  return timeline.tracks
    .filter(track => track.kind === kind)
    .flatMap(track => track.segments)
    .map((segment, index) => ({ segment, position: index + 1 }))
}

function exactKey({ segment }: Entry): string {
  return JSON.stringify([segment.text, segment.title, segment.startMs, segment.durationMs, segment.volume])
}

function nameKey({ segment }: Entry): string {
  return JSON.stringify([segment.text, segment.title])
}

function labelOf(kind: TrackKind, { segment, position }: Entry, language: Language): string {
  const { changes, summary } = words[language]
  if (segment.text !== undefined) return changes.quoted(shorten(segment.text))
  return segment.title === undefined ? summary.unnamed[kind](position) : shorten(segment.title)
}

function detailsOf({ segment }: Entry, language: Language): string {
  const parts = [spanOf(segment, language)]
  if (segment.volume !== undefined && segment.volume !== 1) parts.push(percent(segment.volume))
  return words[language].summary.details(parts)
}
