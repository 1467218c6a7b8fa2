import { setTimeout as sleep } from 'node:timers/promises'
import type { WebSocket } from 'ws'
import type { Entry } from '../services/events/event.ts'
import { entryFrame } from '../services/events/frames.ts'
import type { Sink } from '../services/events/subscriber.ts'

const MAX_BUFFERED = 1024 * 1024
const UNREAD_MS = 30_000

/**
 * Writes entries to a socket while it takes them. Beyond 1 MiB unread the reader waits in the log instead of in
 * memory; a socket that takes nothing for 30 s is closed as too slow.
 */
export function createLiveSink(socket: WebSocket, epoch: string, tooSlow: () => void): Sink {
  let flushed: Promise<void> = Promise.resolve()

  return {
    write(entries: Entry[]) {
      const tcp = (socket as unknown as { _socket?: { cork(): void; uncork(): void } })._socket
      // One write to the kernel for all entries of this turn.
      tcp?.cork()
      for (const [i, entry] of entries.entries()) {
        const frame = entryFrame(entry, epoch)
        if (i < entries.length - 1) socket.send(frame)
        else flushed = new Promise(resolve => socket.send(frame, () => resolve()))
      }
      tcp?.uncork()
      return socket.bufferedAmount < MAX_BUFFERED
    },

    async drained() {
      const waiting = new AbortController()
      const unread = sleep(UNREAD_MS, 'unread', { signal: waiting.signal }).catch(() => 'gone')
      const end = await Promise.race([flushed.then(() => 'flushed'), unread])
      waiting.abort()
      if (end === 'unread') tooSlow()
    },
  }
}
