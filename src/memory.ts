import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** V8 begins to mark when 8 MB of chunks are waiting beside a heap at rest. */
const EVERY_BYTES = 4_000_000

type Collect = (options: { type: 'minor' | 'major'; flavor?: 'last-resort' }) => void

// Node has no call for it.
setFlagsFromString('--expose-gc')
const collect: Collect | undefined = runInNewContext('globalThis.gc')

let passedBytes = 0

/**
 * To be told of each chunk of a file that passes through. To V8 a chunk is a small object, whatever it holds outside
 * of the heap: a thousand of them pile up before it looks, and then it marks the whole heap to find them, several
 * times a second at full speed. Collecting the young ones alone costs a fraction of a millisecond.
 */
export function passed(bytes: number): void {
  passedBytes += bytes
  if (passedBytes < EVERY_BYTES) return
  passedBytes = 0
  collect?.({ type: 'minor' })
}

/** Gives back the memory that loading took, a hundred MiB. It stops everything for a moment. */
export function giveBack(): void {
  collect?.({ type: 'major', flavor: 'last-resort' })
}
