import type { Db } from '../../db/client.ts'
import { joinEvents, markCompacted, readRunEvents, takeUncompacted } from '../../db/event-compaction.ts'
import { dropBefore, makeDays } from '../../db/event-days.ts'
import { compact } from './compaction.ts'

const DAY_MS = 86_400_000
const DAYS_AHEAD = 4
const COMPACT_AFTER_MS = 3_600_000
const RUNS_AT_ONCE = 50

/** Keeps the log small: makes the days to come, drops those that are over, and compacts what finished runs said. */
export function createRetention({ db, keepDays }: { db: Db; keepDays: number }) {
  /** @returns how many runs were compacted */
  async function compactRuns(before: Date): Promise<number> {
    return db.transaction(async tx => {
      const ids = await takeUncompacted(tx, before, RUNS_AT_ONCE)
      for (const id of ids) {
        for (const { entry, gone } of compact(await readRunEvents(tx, id))) await joinEvents(tx, entry, gone)
        await markCompacted(tx, id)
      }
      return ids.length
    })
  }

  return {
    async runOnce(now = new Date()): Promise<void> {
      await makeDays(db, now, DAYS_AHEAD)
      await dropBefore(db, new Date(now.getTime() - keepDays * DAY_MS))
      const before = new Date(now.getTime() - COMPACT_AFTER_MS)
      while ((await compactRuns(before)) === RUNS_AT_ONCE);
    },
  }
}
