/** What a client knows of a project, made from the entries of its log and from nothing else. */
import type { Chunk, Entry, State } from './api.ts'
import { applyPatch } from './patch.ts'
import { describe, kilobytes, seconds, type Terminal } from './terminal.ts'

/** A place in the log: what a client keeps to come back to it. `seq` is null before the first entry. */
export interface Position {
  cursor: string
  seq: number | null
}

export type View = ReturnType<typeof createView>

export function createView(start: Position, terminal: Terminal) {
  let position = start
  let state: State | null = null
  let told = ''

  /** Takes the next entry: checks its place, updates the copy of the state, tells of it. */
  function take(entry: Entry): Entry {
    if (position.seq !== null && entry.seq !== position.seq + 1) {
      const what = entry.seq > position.seq ? 'a gap' : 'a duplicate'
      throw new Error(`${what} in the log: seq ${entry.seq} came after seq ${position.seq}`)
    }
    position = { cursor: entry.id, seq: entry.seq }
    learn(entry.chunk)
    return entry
  }

  function learn(chunk: Chunk) {
    switch (chunk.type) {
      case 'STATE_SNAPSHOT':
        state = chunk.snapshot
        return tellTimeline()
      case 'STATE_DELTA':
        if (!state) throw new Error('a STATE_DELTA came before any STATE_SNAPSHOT')
        state = applyPatch(state, chunk.delta) as State
        return tellTimeline()
      case 'TEXT_MESSAGE_CONTENT':
        return terminal.said(chunk.delta)
      case 'CUSTOM':
        return tellCustom(chunk)
    }
  }

  function tellTimeline() {
    const now = describe(state?.timeline?.tracks ?? [])
    if (now !== told) terminal.timeline(now)
    told = now
  }

  function tellCustom(chunk: Chunk & { type: 'CUSTOM' }) {
    switch (chunk.name) {
      case 'run.progress':
        return terminal.progress(
          chunk.value.note ?? `${chunk.value.phase}, ${seconds(chunk.value.elapsedMs)}`,
        )
      case 'upload.updated':
        return terminal.progress(`${chunk.value.state}, ${kilobytes(chunk.value.bytesForwarded)} forwarded`)
      case 'render.updated':
        return terminal.progress(`${chunk.value.state}, ${chunk.value.progress} %`)
      case 'actions':
        return terminal.note(`on offer: ${chunk.value.map(action => action.label).join(', ')}`)
      case 'run.state':
        if (chunk.value.state === 'reconciling')
          terminal.note('the stream was cut: the gateway finds out what came of it')
    }
  }

  return { take, position: () => position, state: () => state }
}

/** How a run ended, if this entry of it is its end. Throws when it did not end well. */
export function endOf({ runId, chunk }: Entry): { silent: boolean } | null {
  if (chunk.type === 'RUN_ERROR')
    throw new Error(`run ${runId} failed: ${chunk.code ?? 'unknown'}: ${chunk.message}`)
  if (chunk.type !== 'RUN_FINISHED') return null
  if (chunk.outcome && chunk.outcome.type !== 'success')
    throw new Error(`run ${runId} ended as ${chunk.outcome.type}`)
  return { silent: chunk.metadata?.silent === true }
}
