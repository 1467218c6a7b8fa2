import type { Entry } from '../../db/events.ts'
import { scrubText } from '../../scrub.ts'

export type { Entry }

/** The part of AG-UI 1.0 that reelgate speaks. Tool calls and reasoning are never in the log. */
export type Chunk =
  | {
      type: 'RUN_STARTED'
      threadId: string
      runId: string
      timestamp: number
      metadata?: Record<string, unknown>
    }
  | { type: 'TEXT_MESSAGE_START'; messageId: string; role: 'assistant' }
  | { type: 'TEXT_MESSAGE_CONTENT'; messageId: string; delta: string }
  | { type: 'TEXT_MESSAGE_END'; messageId: string }
  | { type: 'STATE_SNAPSHOT'; snapshot: unknown }
  | { type: 'STATE_DELTA'; delta: unknown[] }
  | { type: 'CUSTOM'; name: CustomName; value: unknown }
  | {
      type: 'RUN_FINISHED'
      threadId: string
      runId: string
      timestamp: number
      outcome: { type: 'success' | 'cancelled' }
      metadata?: Record<string, unknown>
    }
  | {
      type: 'RUN_ERROR'
      message: string
      code: string
      timestamp: number
      metadata?: Record<string, unknown>
    }

export type CustomName =
  | 'run.progress'
  | 'actions'
  | 'message.accepted'
  | 'run.state'
  | 'render.updated'
  | 'upload.updated'
  | 'credits.changed'
  | 'project.updated'
  | 'project.session_replaced'

/** What a project's log tells of the project itself; run entries are made in `services/runs`. */
export const custom = (name: CustomName, value: unknown): Chunk => ({ type: 'CUSTOM', name, value })

/**
 * Encodes a chunk. Postgres refuses NUL and half surrogates in JSON, and one hostile string must not block a log; a
 * credential that found its way into a text ends here.
 */
export function encodeChunk(chunk: Chunk): string {
  const json = JSON.stringify(chunk)
  if (!UNSTORABLE.test(json) && scrubText(json) === json) return json
  return JSON.stringify(chunk, (_, value) => (typeof value === 'string' ? scrubText(storable(value)) : value))
}

/** How JSON spells NUL and half a surrogate pair; a text that only speaks of them matches too. */
const UNSTORABLE = /\\u(?:0000|d[89a-f])/

export function storable(text: string): string {
  const wellFormed = text.isWellFormed() ? text : text.toWellFormed()
  return wellFormed.includes('\0') ? wellFormed.replaceAll('\0', '') : wellFormed
}

export interface Cursor {
  epoch: string
  seq: number
}

/** A position in one project's log, opaque to clients. It names the project so that it cannot be used in another. */
export function encodeCursor(epoch: string, projectId: string, seq: number): string {
  return Buffer.from(`${epoch}.${projectId.slice(-12)}.${seq}`).toString('base64url')
}

/** Null: this is no cursor at all. A cursor of another project has the epoch `''`, which continues nothing. */
export function decodeCursor(cursor: string, projectId: string): Cursor | null {
  if (cursor.length > 128) return null
  const match = /^([0-9a-z]{1,16})\.([0-9a-f]{12})\.(\d{1,15})$/.exec(
    Buffer.from(cursor, 'base64url').toString(),
  )
  if (!match) return null
  const [, epoch = '', project, seq] = match
  return { epoch: project === projectId.slice(-12) ? epoch : '', seq: Number(seq) }
}
