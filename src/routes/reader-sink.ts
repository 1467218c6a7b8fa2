import type { Writable } from 'node:stream'
import type { Framing } from '../services/events/frames.ts'
import type { EventLog } from '../services/events/log.ts'
import type { Sink } from '../services/events/subscriber.ts'

const MAX_BUFFERED = 1024 * 1024
const UNREAD_MS = 30_000

export interface ReaderSink extends Sink {
  /** Writes now what waits for the end of the turn: whoever writes to the connection past the sink calls it first. */
  flush(): void
}

/** What is to be flushed at the end of this turn of the loop. */
let waiting: (() => void)[] = []

/**
 * Writes entries to a connection while it takes them: what comes in one turn of the loop by one call of the kernel,
 * however many projects had news. Beyond 1 MiB unread, its readers wait in the log instead of in memory; a connection
 * that takes nothing for 30 s is too slow. All readers on a connection share its sink.
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
}): ReaderSink {
  const { stream, framing, log, isOpen, tooSlow } = options
  // Mostly one block waits, and an array for it would cost more than to write it.
  let block: Buffer | null = null
  let further: Buffer[] | null = null
  let bytes = 0
  let draining: Promise<void> | null = null

  function flush() {
    const [first, others] = [block, further]
    block = null
    further = null
    bytes = 0
    if (first === null || !isOpen()) return
    if (others) stream.cork()
    stream.write(first)
    if (!others) return
    for (const other of others) stream.write(other)
    stream.uncork()
  }

  /** Closed, it takes everything and keeps nothing: nobody has to wait for it. */
  const isFull = () => stream.writableLength + bytes >= MAX_BUFFERED && isOpen() && !stream.destroyed

  return {
    isFull,
    write(entries) {
      if (!isOpen()) return true
      const added = framing(entries, log.epoch)
      if (block === null) {
        block = added
        if (waiting.push(flush) === 1) process.nextTick(flushAll)
      } else if (further === null) further = [added]
      else further.push(added)
      bytes += added.length
      return !isFull()
    },
    flush,
    drained() {
      flush()
      draining ??= drain(stream, tooSlow).finally(() => {
        draining = null
      })
      return draining
    },
  }
}

function flushAll() {
  const flushes = waiting
  waiting = []
  for (const flush of flushes) flush()
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
