import type { Chunk, Entry } from './event.ts'
import { firstOf } from './ring.ts'

export interface Block {
  /** The entry that stays, with all of the text. */
  entry: Entry
  /** The numbers of those that go. */
  gone: number[]
}

/**
 * Joins the pieces of a message that stand next to each other in a log: one content with all of their text, at the
 * place of the last. What stands between two pieces keeps them apart, so that nothing changes its place.
 * @param entries a run's, oldest first
 */
export function compact(entries: Entry[]): Block[] {
  const stretches: Stretch[] = []
  let last = null as Stretch | null
  for (const entry of entries) {
    const chunk = JSON.parse(entry.chunk) as Chunk
    if (chunk.type !== 'TEXT_MESSAGE_CONTENT') last = null
    else if (last?.messageId === chunk.messageId && firstOf(entry) === last.pieces.at(-1)!.seq + 1) {
      last.pieces.push(entry)
      last.text += chunk.delta
    } else {
      last = { pieces: [entry], messageId: chunk.messageId, text: chunk.delta }
      stretches.push(last)
    }
  }
  return stretches.filter(({ pieces }) => pieces.length > 1).map(joined)
}

interface Stretch {
  pieces: Entry[]
  messageId: string
  text: string
}

function joined({ pieces, messageId, text }: Stretch): Block {
  const chunk: Chunk = { type: 'TEXT_MESSAGE_CONTENT', messageId, delta: text }
  return {
    entry: { ...pieces.at(-1)!, chunk: JSON.stringify(chunk), firstSeq: firstOf(pieces[0]!) },
    gone: pieces.slice(0, -1).map(({ seq }) => seq),
  }
}
