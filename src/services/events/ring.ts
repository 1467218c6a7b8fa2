import type { Entry } from './event.ts'

const MAX_ENTRIES = 256
const MAX_CHARACTERS = 128 * 1024

/** The newest entries of one project, without a gap, for readers that were away for a moment. */
export interface Ring {
  /** The entries after `seq`, oldest first; null when the ring does not reach back so far or `seq` is within a block. */
  after(seq: number): Entry[] | null
  /** Entries that follow those it has. */
  push(entries: Entry[]): void
  /** Entries just read from the log, which it takes where they join on to what it has, or to `head` if it has nothing. */
  extendBack(entries: Entry[], head: number): void
}

export const firstOf = (entry: Entry): number => entry.firstSeq ?? entry.seq

export function createRing(): Ring {
  let entries: Entry[] = []
  let characters = 0
  // Those who come back together ask for the same, and what they share is framed once.
  let answer: { seq: number; entries: Entry[] } | null = null

  function add(added: Entry[], all: Entry[]) {
    answer = null
    entries = all
    for (const { chunk } of added) characters += chunk.length
    let dropped = 0
    while (entries.length - dropped > MAX_ENTRIES || characters > MAX_CHARACTERS)
      characters -= entries[dropped++]!.chunk.length
    if (dropped > 0) entries.splice(0, dropped)
  }

  return {
    after(seq) {
      if (answer?.seq === seq) return answer.entries
      const at = entries.findIndex(entry => entry.seq > seq)
      if (at < 0 || firstOf(entries[at]!) !== seq + 1) return null
      answer = { seq, entries: entries.slice(at) }
      return answer.entries
    },
    push(fresh) {
      entries.push(...fresh)
      add(fresh, entries)
    },
    extendBack(page, head) {
      const before = entries[0] ? firstOf(entries[0]) - 1 : head
      const older = page.filter(entry => entry.seq <= before)
      if (older.at(-1)?.seq === before) add(older, [...older, ...entries])
    },
  }
}
