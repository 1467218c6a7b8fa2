import type { Writable } from 'node:stream'
import type { Framing } from '../services/events/frames.ts'
import type { EventLog } from '../services/events/log.ts'
import type { Sink } from '../services/events/subscriber.ts'

const MAX_BUFFERED = 1024 * 1024
const UNREAD_MS = 30_000

/** Streams that have been written to in this turn of the loop. */
let written: Writable[] = []

/**
 * Writes entries to a connection while it takes them. Beyond 1 MiB unread, its readers wait in the log instead of in
 * memory; a connection that takes nothing for 30 s is too slow. All readers on a connection share its sink.
 *
 * @param stream what the bytes go to, at a boundary of frames
 * @param isOpen false once nothing more may follow
 */
export function createReaderSink(options: {
  stream: Writable
  framing: Framing
  log: Pick<EventLog, 'epoch'>
  isOpen(): boolean
  tooSlow(): void
}): Sink {
  const { stream, framing, log, isOpen, tooSlow } = options
  let draining: Promise<void> | null = null

  return {
    write(entries) {
      if (!isOpen()) return true
      gather(stream)
      stream.write(framing(entries, log.epoch))
      return stream.writableLength < MAX_BUFFERED
    },
    drained() {
      draining ??= drain(stream, tooSlow).finally(() => {
        draining = null
      })
      return draining
    },
  }
}

/** Holds back what is written until the end of this turn: one write to the kernel, however many projects had news. */
function gather(stream: Writable) {
  if (stream.writableCorked > 0) return
  stream.cork()
  if (written.push(stream) === 1) process.nextTick(letGo)
}

function letGo() {
  const streams = written
  written = []
  for (const stream of streams) if (stream.writableCorked > 0) stream.uncork()
}

/** Waits until the connection takes more, or has closed; `tooSlow` is called when that takes longer than 30 s. */
export async function drain(stream: Writable, tooSlow: () => void) {
  if (!stream.writableNeedDrain || stream.destroyed) return
  const waiting = Promise.withResolvers<void>()
  const unread = setTimeout(() => {
    tooSlow()
    waiting.resolve()
  }, UNREAD_MS)
  stream.once('drain', waiting.resolve).once('close', waiting.resolve)
  await waiting.promise
  clearTimeout(unread)
  stream.off('drain', waiting.resolve).off('close', waiting.resolve)
}
