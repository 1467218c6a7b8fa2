import { chunkFor, isEnd, type Reader } from '../services/agui/chunks.ts'
import type { Chunk, Entry } from '../services/events/event.ts'
import type { Sink } from '../services/events/subscriber.ts'
import type { EventStream } from './event-stream.ts'

/** An AG-UI event for the wire; without an id a client cannot resume after it. */
export const frameOf = (chunk: Chunk, id?: string) =>
  `${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(chunk)}\n\n`

/** Writes one run's part of a project's log to its client, and ends with the run: then it calls `ended`. */
export function createRunSink(
  stream: EventStream,
  options: { runId: string; reader: Reader; idOf(entry: Entry): string; ended(): void },
): Sink {
  const { runId, reader, idOf, ended } = options

  return {
    isFull: stream.isFull,
    write(entries) {
      let frames = ''
      for (const entry of entries) {
        if (entry.runId !== runId) continue
        const chunk = chunkFor(JSON.parse(entry.chunk), reader)
        if (!chunk) continue
        frames += frameOf(chunk, idOf(entry))
        if (!isEnd(chunk)) continue
        stream.write(frames)
        stream.end()
        ended()
        return true
      }
      return frames === '' || stream.write(frames)
    },
    drained: stream.drained,
  }
}
