import type { Db } from '../../db/client.ts'
import { loadProject, type ProjectRow } from '../../db/projects.ts'
import {
  failSilent,
  findUpload,
  finishUpload,
  insertUpload,
  recordForwarded,
  silentUploads,
  type UploadRow,
} from '../../db/uploads.ts'
import type { Problem, ProblemCode } from '../../problems.ts'
import { custom } from '../events/event.ts'
import type { EventLog } from '../events/log.ts'
import { userProblem } from '../user-states.ts'
import { toUpload, type Upload, type UploadedMedia } from './upload.ts'

/** What is known of a file before anything is sent. */
export interface Beginning {
  id: string
  userId: string
  projectId: string
  filename: string
  mediaType?: string
}

export type Ending = { bytesForwarded: number } & (
  | { state: 'ready'; media: UploadedMedia; bytes: number | null }
  | { state: 'failed'; problem: Problem }
)

export interface Records {
  /** Writes the row that `write` gives, and tells of it; undefined when there was nothing to write. */
  store(write: (tx: Db) => Promise<UploadRow | undefined>): Promise<UploadRow | undefined>
  /** The committed intent, before the first byte leaves. */
  begin(upload: Beginning): Promise<void>
  /** A file of which nothing is sent. */
  refuse(upload: Beginning, problem: Problem): Promise<Upload>
  /** How the upload stands after it: as `ending` says, or as it had ended before. */
  finish(upload: Pick<Beginning, 'id' | 'userId'>, ending: Ending): Promise<Upload>
  /** Tells how far a file has come: `tell` as often as it likes, at most one event a second. `stop` before the end. */
  progress(id: string, forwarded: () => number): { tell(): void; stop(): Promise<void> }
  /** Fails uploads that nothing has touched for `olderThanMs`: their process died. Returns how many. */
  sweep(olderThanMs: number): Promise<number>
}

const PROGRESS_EVERY_MS = 1_000
const SWEEP_BATCH = 100

/** The rows of uploads: each change and the event that tells of it are one transaction. */
export function createRecords({ db, log }: { db: Db; log: EventLog }): Records {
  const store = (write: (tx: Db) => Promise<UploadRow | undefined>) =>
    log.transaction(async (tx, append) => {
      const row = await write(tx)
      if (row) await append(row.projectId, [custom('upload.updated', toUpload(row))])
      return row
    })

  return {
    store,

    async begin(upload) {
      await store(tx => insertUpload(tx, { ...upload, state: 'forwarding' }))
    },

    async refuse(upload, problem) {
      const row = await store(tx => insertUpload(tx, { ...upload, state: 'failed', problem }))
      return toUpload(row!)
    },

    async finish({ id, userId }, ending) {
      const row = await store(tx => finishUpload(tx, id, ending))
      return toUpload(row ?? (await findUpload(db, userId, id))!)
    },

    progress(id, forwarded) {
      let toldAt = performance.now()
      let telling: Promise<unknown> | null = null
      let stopped = false
      return {
        tell() {
          const now = performance.now()
          if (stopped || telling || now - toldAt < PROGRESS_EVERY_MS) return
          toldAt = now
          telling = store(tx => recordForwarded(tx, id, forwarded()))
            // The next one tells as much, and the end is told for certain.
            .catch(() => {})
            .finally(() => {
              telling = null
            })
        },
        async stop() {
          stopped = true
          await telling
        },
      }
    },

    async sweep(olderThanMs) {
      let failed = 0
      for (const { id, projectId } of await silentUploads(db, olderThanMs, SWEEP_BATCH)) {
        const project = await loadProject(db, projectId)
        if (!project) continue
        const problem = fileProblem('upload_interrupted', project)
        if (await store(tx => failSilent(tx, id, olderThanMs, problem))) failed++
      }
      return failed
    },
  }
}

/** A problem with the file itself, which is the same whatever account it happens to. */
export function fileProblem(
  code: ProblemCode,
  project: Pick<ProjectRow, 'language'>,
  retryAfterMs?: number,
): Problem {
  return userProblem(code, { kind: 'shared', upstreamUserId: null }, project.language, '', retryAfterMs)
}
