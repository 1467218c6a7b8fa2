import type { Config } from '../../config.ts'
import type { Db } from '../../db/client.ts'
import type { Locks } from '../../db/locks.ts'
import type { Accounts } from '../accounts/accounts.ts'
import type { EventLog } from '../events/log.ts'
import type { Dispatcher } from '../jobs/dispatcher.ts'
import type { Jobs } from '../jobs/jobs.ts'
import type { Projects } from '../projects.ts'
import type { Timelines } from '../timeline/timeline.ts'
import type { UpstreamClient } from '../upstream/client.ts'
import { createForward, type ForwardJob } from './forward.ts'
import { createLook } from './look.ts'
import type { BodyLimits } from './multipart-body.ts'
import { createRecords } from './records.ts'
import { createResumable, RECEIVE_MS, type Resumable, uploadFacts } from './resumable.ts'
import { openSpool } from './spool.ts'
import { createSpoolSweep, type SweepTimes } from './spool-sweep.ts'

export interface ResumableUploads extends Resumable {
  /** Begins to forward what is whole, and to sweep once a minute. */
  start(): void
  /** Takes no more to forward; what is under way is handed over. */
  stop(): Promise<void>
  sweep(times?: SweepTimes): Promise<void>
}

const CONCURRENT_FORWARDS = 8
const SWEEP_EVERY_MS = 60_000
const FORWARD_GRACE_MS = 5_000

/** Receiving, forwarding and sweeping over one spool. A spool has a queue of its own: who reaches it, works on it. */
export async function openResumable(options: {
  db: Db
  log: EventLog
  accounts: Accounts
  projects: Projects
  timelines: Timelines
  upstream: UpstreamClient
  jobs: Jobs
  locks: Locks
  config: Pick<Config, 'dataDir' | 'uploads' | 'runs'>
  limits?: Partial<BodyLimits>
  onError(error: unknown): void
}): Promise<ResumableUploads> {
  const { db, config, jobs, onError } = options
  const { maxBytes, spoolQuotaBytes: quotaBytes, s3 } = config.uploads
  const spool = await openSpool({ dataDir: config.dataDir, s3, keepMs: RECEIVE_MS, facts: uploadFacts(db) })
  const queue = await jobs.queue<ForwardJob>(`forwards-${spool.id}`)
  const records = createRecords(options)
  const parts = { ...options, records, spool, queue, maxBytes, quotaBytes }
  const resumable = createResumable({ ...parts, onReceived: () => dispatcher?.wake() })
  const forward = createForward({ ...parts, look: createLook(options), reconcile: config.runs.reconcile })
  const sweep = createSpoolSweep({ ...parts, accept: resumable.accept })
  let dispatcher: Dispatcher | undefined
  let timer: NodeJS.Timeout | undefined

  return {
    ...resumable,
    sweep,

    start() {
      dispatcher = queue.work(CONCURRENT_FORWARDS, async (job, signal) => {
        await forward(job, signal)
        await queue.complete(job)
      })
      timer = setInterval(() => sweep().catch(onError), SWEEP_EVERY_MS).unref()
    },

    async stop() {
      clearInterval(timer)
      await dispatcher?.stop(FORWARD_GRACE_MS)
    },
  }
}
