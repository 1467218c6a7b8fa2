import type { Db } from '../../db/client.ts'
import type { Locks } from '../../db/locks.ts'
import { loadProject } from '../../db/projects.ts'
import { deleteSpool, expiredSpools, leftInSpool, withoutSpool } from '../../db/spools.ts'
import { finishUpload } from '../../db/uploads.ts'
import { fileProblem, type Records } from './records.ts'
import type { Spool } from './spool.ts'

const BATCH = 100
const LOCK_WAIT_MS = 1_000

export interface SweepTimes {
  /** How long a row must have been left alone. */
  quietMs: number
  /** How long a file without a row must have been. */
  orphanMs: number
}

const TIMES: SweepTimes = { quietMs: 60_000, orphanMs: 60 * 60_000 }

/**
 * What crashes and clients leave in a spool: uploads whose time is over, whole ones that nobody has noticed, files of
 * ended ones, files of none. Each instance sweeps the spool it reaches.
 */
export function createSpoolSweep(options: {
  db: Db
  records: Records
  spool: Spool
  locks: Locks
  accept(id: string): Promise<void>
  onError(error: unknown): void
}) {
  const { db, records, spool, locks, accept, onError } = options

  async function end(id: string, projectId: string) {
    // Whoever writes or sends this upload right now is not disturbed.
    const held = await locks.hold(id, { wanted() {}, lost() {} }, LOCK_WAIT_MS)
    try {
      const project = (await loadProject(db, projectId)) ?? { language: 'en' }
      const problem = fileProblem('upload_interrupted', project)
      await records.store(tx => finishUpload(tx, id, { state: 'failed', problem, bytesForwarded: 0 }))
    } finally {
      await held.release()
    }
  }

  async function drop(id: string) {
    await spool.remove(id)
    await deleteSpool(db, id)
  }

  return async function sweep({ quietMs, orphanMs } = TIMES): Promise<void> {
    for (const { upload } of await expiredSpools(db, BATCH))
      await end(upload.id, upload.projectId).catch(onError)
    for (const { upload } of await leftInSpool(db, spool.id, 'receiving', quietMs, BATCH))
      if ((await spool.size(upload.id)) === upload.bytes) await accept(upload.id).catch(onError)
    for (const { upload } of await leftInSpool(db, spool.id, 'ended', quietMs, BATCH))
      await drop(upload.id).catch(onError)
    for (const id of await withoutSpool(db, await spool.quiet(orphanMs)))
      await spool.remove(id).catch(onError)
  }
}
