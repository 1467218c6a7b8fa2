import type { FastifyReply } from 'fastify'
import { ProblemError } from '../problems.ts'
import type { ClientSession } from '../services/users/sessions.ts'
import { drain } from './reader-sink.ts'
import type { Readers } from './readers.ts'

const COMMENT_MS = 15_000
const RETRY_MS = 1_000

/** An answer of Server-Sent Events that has begun. */
export interface EventStream {
  /** False when the socket is full; `drained` tells when it takes more. After the end nothing is written. */
  write(text: string): boolean
  isFull(): boolean
  /** Lets go of a reader that takes nothing for half a minute; its cursor brings it back. */
  drained(): Promise<void>
  isOpen(): boolean
  /** Ends the answer as a whole one. */
  end(): void
  /** Breaks it off, so that the reader knows that there is more. */
  cut(): void
  /** Calls `left` once the reader has gone, at once when it has. */
  onClose(left: () => void): void
}

/**
 * Takes one of the user's places for readers and has `prepare` look up what there is to read: what it throws is the
 * answer. Then the stream begins. It ends with the user's session and when the instance goes down (`closing`): ended
 * as a whole, or cut where the end would be taken for the end of what is read.
 */
export async function openEventStream<T>(
  reply: FastifyReply,
  options: { session: ClientSession; readers: Readers; closing: AbortSignal; onClosing: 'end' | 'cut' },
  prepare: () => Promise<T>,
): Promise<{ stream: EventStream; prepared: T }> {
  const { raw } = reply
  const { session, readers, closing, onClosing } = options
  const place = readers.enter(session, () => raw.destroy())
  if (!place) throw new ProblemError('rate_limited', 'Too many open readers.', { retryAfterMs: 5_000 })
  const prepared = await prepare().catch(error => {
    place.leave()
    throw error
  })
  reply.hijack()
  raw.writeHead(200, {
    ...headersOf(reply),
    'content-type': 'text/event-stream',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  })
  raw.write(`retry: ${RETRY_MS}\n\n`)

  const stream: EventStream = {
    write: text => raw.writableEnded || raw.write(text),
    isFull: () => raw.writableNeedDrain,
    drained: () => drain(raw, () => raw.destroy()),
    isOpen: () => !raw.writableEnded && !raw.destroyed,
    end: () => raw.end(),
    cut: () => raw.destroy(),
    onClose(left) {
      // The client may have left while its position was looked up, and a close is told only once.
      if (raw.destroyed) left()
      else raw.on('close', left)
    },
  }
  // A stream that has ended may wait for its reader yet.
  const comments = setInterval(() => raw.writableNeedDrain || stream.write(': still here\n\n'), COMMENT_MS)
  const stop = stream[onClosing]
  closing.addEventListener('abort', stop)
  stream.onClose(() => {
    closing.removeEventListener('abort', stop)
    clearInterval(comments)
    place.leave()
  })
  if (closing.aborted) stop()
  return { stream, prepared }
}

/** What hooks have set on the reply, such as CORS: a hijacked reply does not send it by itself. */
function headersOf(reply: FastifyReply): Record<string, string | string[]> {
  const set = Object.entries(reply.getHeaders()).filter(([, value]) => value !== undefined)
  return Object.fromEntries(
    set.map(([name, value]) => [name, Array.isArray(value) ? value.map(String) : String(value)]),
  )
}
