import type { RunRow } from '../../db/runs.ts'
import type { Chunk } from '../events/event.ts'
import { ownMessage } from '../narration/narrator.ts'
import { runError, runFinished } from '../runs/run.ts'
import { type Language, words } from '../words.ts'

/** A run's chunks as one AG-UI client gets them: under the client's own name for the run, in its version. */
export interface Reader {
  /** What the client calls the run. */
  runId: string
  /** Speaks AG-UI 1.0; older clients fail on what they do not know. */
  current: boolean
  language: Language
}

/** The first chunk, sent when the message is accepted, so that a client whose run waits has a place to resume from. */
export function beginning(run: RunRow, { runId }: Reader): Chunk {
  return {
    type: 'RUN_STARTED',
    threadId: run.projectId,
    runId,
    timestamp: run.createdAt.getTime(),
    // The name by which the rest of the API knows it: to stop it, say.
    metadata: { runId: run.id },
  }
}

/** A chunk of the log for one client; null when there is nothing to send. */
export function chunkFor(chunk: Chunk, reader: Reader): Chunk | null {
  switch (chunk.type) {
    case 'RUN_STARTED':
      return null
    case 'RUN_FINISHED':
      return chunk.outcome.type === 'cancelled' && !reader.current
        ? stopped(chunk.timestamp, reader)
        : { ...chunk, runId: reader.runId }
    default:
      return chunk
  }
}

export const isEnd = ({ type }: Chunk) => type === 'RUN_FINISHED' || type === 'RUN_ERROR'

/** A finished run that the log no longer holds, from what its row has kept. */
export function retold(run: RunRow, reader: Reader): Chunk[] {
  const said = run.reply ? ownMessage(run.reply) : []
  return [beginning(run, reader), ...said, chunkFor(ending(run), reader)!]
}

function ending(run: RunRow): Chunk {
  if (run.problem) return runError(run.problem)
  return runFinished(run, run.state === 'stopped' ? 'cancelled' : 'success')
}

function stopped(timestamp: number, { language }: Reader): Chunk {
  return { type: 'RUN_ERROR', message: words[language].notes.stopped, code: 'stopped', timestamp }
}
