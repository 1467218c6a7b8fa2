import { randomUUIDv7 } from 'node:crypto'
import { type Chunk, custom } from '../events/event.ts'
import { createTextAssembler } from '../upstream/text.ts'
import type { Language } from '../words.ts'
import { type ActionKind, actionsFor, withoutScreenWords } from './gui-phrases.ts'
import { createSentenceHolder, sentencesOf } from './sentences.ts'

const MAX_TEXT = 1024 * 1024

/** Turns what the upstream says into what the user reads: one message a turn, whole sentences, no screen. */
export interface Narrator {
  say(text: string, partial: boolean): Chunk[]
  /** Shows what is held if it is harmless as it stands: nobody should wait for the end of a slow sentence. */
  breathe(): Chunk[]
  /** A tool call or a whole text ends the model's turn. */
  endTurn(): Chunk[]
  /** Ends the message and offers the actions that the text meant. */
  finish(): Chunk[]
  /** All that was shown. */
  text(): string
  /** The upstream said nothing but that it has trouble. */
  troubled(): boolean
}

export function createNarrator(options: { projectId: string; language: Language }): Narrator {
  const { projectId, language } = options
  const assembler = createTextAssembler()
  const sentences = createSentenceHolder(language)
  const wanted = new Set<ActionKind>()
  const messages: string[] = []
  let messageId: string | null = null
  let length = 0

  function show(complete: string[]): Chunk[] {
    if (complete.length === 0) return []
    const { text: visible, actions } = withoutScreenWords(complete)
    for (const action of actions) wanted.add(action)
    if (visible === '' || (messageId === null && visible.trim() === '')) return []
    const room = visible.slice(0, MAX_TEXT - length)
    if (room === '') return []
    length += room.length
    const start: Chunk[] = []
    if (messageId === null) {
      messageId = randomUUIDv7()
      messages.push('')
      start.push({ type: 'TEXT_MESSAGE_START', messageId, role: 'assistant' })
    }
    messages[messages.length - 1] += room
    return [...start, { type: 'TEXT_MESSAGE_CONTENT', messageId, delta: room }]
  }

  function close(): Chunk[] {
    const chunks = show(sentences.flush())
    if (messageId === null) return chunks
    const end: Chunk = { type: 'TEXT_MESSAGE_END', messageId }
    messageId = null
    return [...chunks, end]
  }

  function endTurn(): Chunk[] {
    assembler.turnEnded()
    return close()
  }

  return {
    say(text, partial) {
      const chunks = show(sentences.push(assembler.push(text, partial)))
      return partial ? chunks : [...chunks, ...endTurn()]
    },
    breathe() {
      const held = sentences.held()
      if (held === '' || withoutScreenWords(sentencesOf(held, language)).text !== held) return []
      return show(sentences.flush())
    },
    endTurn,
    finish() {
      const chunks = [...show(sentences.push(assembler.finish())), ...close()]
      if (wanted.size > 0) chunks.push(custom('actions', actionsFor([...wanted], projectId, language)))
      return chunks
    },
    text: () => messages.map(message => message.trim()).join('\n\n'),
    troubled: assembler.troubled,
  }
}

/** One whole message in words of our own. */
export function ownMessage(text: string): Chunk[] {
  const messageId = randomUUIDv7()
  return [
    { type: 'TEXT_MESSAGE_START', messageId, role: 'assistant' },
    { type: 'TEXT_MESSAGE_CONTENT', messageId, delta: text },
    { type: 'TEXT_MESSAGE_END', messageId },
  ]
}
