import type { Db } from '../../db/client.ts'
import { confirmEpoch, renewEpoch } from '../../db/event-epoch.ts'
import { gather } from '../gather.ts'

/** After a failover, thousands come at once with cursors of the epoch before it. */
const CONFIRM_MS = 20

export interface EpochWatch {
  /** Asks the database whether the epoch is still the one that is known here. */
  confirm(): Promise<void>
  /** The log was seen to go backwards: the epoch that is known here is over. */
  renew(): Promise<void>
}

/** Finds out whether the log's epoch has changed, and tells. */
export function watchEpoch({
  db,
  known,
  onChanged,
}: {
  db: Db
  known(): string
  onChanged(epoch: string): void
}): EpochWatch {
  let asked: Promise<void> = Promise.resolve()

  /** One after the other: an answer that was long under way must not bring back an epoch that is over. */
  function ask(question: () => Promise<string>): Promise<void> {
    const answered = asked.then(question).then(epoch => {
      if (epoch !== known()) onChanged(epoch)
    })
    asked = answered.catch(() => {})
    return answered
  }

  const confirm = gather(CONFIRM_MS, async (all: null[]) => {
    await ask(() => confirmEpoch(db))
    return all
  })

  return {
    confirm: async () => void (await confirm(null)),
    renew() {
      const seen = known()
      return ask(() => renewEpoch(db, seen))
    },
  }
}
