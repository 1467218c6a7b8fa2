import type { ProjectRow } from '../../db/projects.ts'
import type { Caller } from '../accounts/accounts.ts'
import type { EventLog } from '../events/log.ts'
import type { Timelines } from '../timeline/timeline.ts'

export type Look = (caller: Caller, project: ProjectRow) => Promise<void>

/** Brings a project up to date with what was added. The file is in it whether this succeeds or not. */
export function createLook({ log, timelines }: { log: EventLog; timelines: Timelines }): Look {
  return async (caller, project) => {
    try {
      const read = await timelines.read(project, caller)
      if (read.kind !== 'ok') return
      await log.transaction((tx, append) => timelines.observe(tx, append, project.id, read.value))
    } catch {
      // The next read finds it.
    }
  }
}
