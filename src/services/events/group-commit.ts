import { setImmediate as endOfTurn } from 'node:timers/promises'
import type { Batch, Written } from '../../db/event-batches.ts'
import { isDatabaseDown } from '../../problems.ts'
import type { Entry } from './event.ts'

interface Waiting {
  batch: Batch
  resolve(held: boolean): void
  reject(error: unknown): void
}

/**
 * Writes what many runs have to say with one statement and one commit: what comes in one turn of the loop goes
 * together, and what comes while a commit is under way goes with the next one.
 *
 * @param append writes batches, each for itself: all are committed together, and none depends on another
 * @param onCommitted hears of each batch's entries before its writer does
 * @returns writes one batch; true once it is committed, false when the run has another holder
 */
export function createGroupCommit(
  append: (batches: Batch[], wait: boolean) => Promise<Written[]>,
  onCommitted: (entries: Entry[]) => void,
): (batch: Batch) => Promise<boolean> {
  let waiting: Waiting[] = []
  let committing = false

  async function commitAll() {
    committing = true
    await endOfTurn()
    while (waiting.length > 0) {
      const group = waiting
      waiting = []
      await commit(group, false)
    }
    committing = false
  }

  async function commit(group: Waiting[], wait: boolean) {
    const batches = group.map(({ batch }) => batch)
    let written: Written[]
    try {
      written = await append(batches, wait)
    } catch (error) {
      // Whether the commit took place is the writer's to find out. A value that Postgres refuses is one batch's fault.
      if (group.length === 1 || isDatabaseDown(error)) for (const { reject } of group) reject(error)
      else for (const one of group) void commit([one], true)
      return
    }
    for (const [i, one] of group.entries()) settle(one, written[i]!)
  }

  function settle(one: Waiting, written: Written) {
    if (written === 'lost') return one.resolve(false)
    // Somebody holds the project's row: wait for it without holding up the others.
    if (written === 'busy') return void commit([one], true)
    onCommitted(written)
    one.resolve(true)
  }

  return batch =>
    new Promise((resolve, reject) => {
      waiting.push({ batch, resolve, reject })
      if (!committing) void commitAll()
    })
}
