import type { Entry } from './event.ts'
import { inParts } from './parts.ts'
import { firstOf } from './ring.ts'

/** What was being read is no longer there: the reader has to begin anew, with a snapshot. */
export class LostPositionError extends Error {
  override readonly name = 'LostPositionError'
}

/** Where a reader's entries go. `write` says whether more may follow at once; if not, `drained` tells when. */
export interface Sink {
  /** Another reader on the same connection may have filled it. */
  isFull(): boolean
  write(entries: Entry[]): boolean
  drained(): Promise<void>
}

/** What a subscriber needs of its project's channel. */
export interface Source {
  /** The newest entry that live subscribers have been offered. */
  head(): number
  read(after: number): Promise<Entry[]>
}

export interface Subscriber {
  offer(entries: Entry[]): void
  /** Ends it with an error. */
  fail(error: unknown): void
  close(): void
}

/**
 * One reader: a cursor in one of two phases. In `backfill` it reads the log page by page, as fast as its sink takes
 * it, and ignores live entries, because the log has them. Once its cursor has reached the channel's head it cuts over
 * to `live`, where entries come from memory. Both the check and the change happen in one turn of the loop, and the
 * head moves only together with an offer, so nothing falls between. A full sink sends it back to backfill: what it
 * has not taken waits in the log, never in memory.
 */
export function createSubscriber(options: {
  source: Source
  sink: Sink
  after: number
  onError(error: unknown): void
}): Subscriber {
  const { source, sink, onError } = options
  let cursor = options.after
  let phase: 'backfill' | 'live' | 'closed' = 'backfill'
  backfill().catch(fail)

  async function backfill() {
    while (phase === 'backfill') {
      if (cursor >= source.head()) {
        phase = 'live'
        return
      }
      const page = await source.read(cursor)
      if (closed()) return
      // Removed or compacted while it was on its way: no part of what was missed is shown.
      if (!page[0] || firstOf(page[0]) !== cursor + 1) throw new LostPositionError()
      for (const part of inParts(page)) {
        if (sink.isFull() || !send(part)) {
          // What it has not taken of the page is read again, rather than kept meanwhile.
          await sink.drained()
          break
        }
        if (closed()) return
      }
    }
  }

  const closed = () => phase === 'closed'

  function fail(error: unknown) {
    if (closed()) return
    phase = 'closed'
    onError(error)
  }

  function send(entries: Entry[]): boolean {
    cursor = entries.at(-1)!.seq
    return sink.write(entries)
  }

  return {
    offer(entries) {
      if (phase !== 'live') return
      const fresh = entries[0]!.seq > cursor ? entries : entries.filter(entry => entry.seq > cursor)
      try {
        // A write may close its own reader.
        if (fresh.length === 0 || (!sink.isFull() && (send(fresh) || closed()))) return
      } catch (error) {
        // Whoever offers has committed already, and other readers to serve.
        return fail(error)
      }
      phase = 'backfill'
      sink.drained().then(backfill).catch(fail)
    },
    fail,
    close() {
      phase = 'closed'
    },
  }
}
