import type { FastifyInstance } from 'fastify'
import type { Config } from './config.ts'
import { openDatabase } from './db/client.ts'
import { readEpoch } from './db/event-epoch.ts'
import { sweepKeys } from './db/idempotency.ts'
import { sweepExpired } from './db/users.ts'
import { createHttp } from './http.ts'
import { VERSION } from './logger.ts'
import type { Services } from './routes/index.ts'
import { createAccounts } from './services/accounts/accounts.ts'
import { developmentKeys } from './services/accounts/token-keys.ts'
import { createTokenVault } from './services/accounts/token-vault.ts'
import { createCredits } from './services/credits.ts'
import { createEventLog } from './services/events/log.ts'
import { createRetention } from './services/events/retention.ts'
import { createIdempotency } from './services/idempotency.ts'
import type { Dispatcher } from './services/jobs/dispatcher.ts'
import { createJobs } from './services/jobs/jobs.ts'
import { createMessages } from './services/messages/messages.ts'
import { createProjects } from './services/projects.ts'
import { createRenders } from './services/renders/renders.ts'
import { createRuns } from './services/runs/runs.ts'
import { createTimelines } from './services/timeline/timeline.ts'
import { createUploads } from './services/uploads/uploads.ts'
import { createUpstreamClient } from './services/upstream/client.ts'
import { createSessions } from './services/users/sessions.ts'
import { createUsers } from './services/users/users.ts'

export interface App {
  http: FastifyInstance
  /** Not ready, sockets told to come back, work ended or handed over, everything closed. Ends within 25 s. */
  close(): Promise<void>
}

const RUN_GRACE_MS = 12_000
const INTERRUPTED_UPLOAD_MS = 10 * 60_000

/** Makes every part, each with the parts it needs, and starts the workers. `close` undoes it in reverse. */
export async function createApp(config: Config, urls: { database: string; upstream: string }): Promise<App> {
  const closing = new AbortController()
  const report = (error: unknown) => http?.log.warn({ err: error }, 'background work failed')
  let http: FastifyInstance | undefined

  const database = openDatabase(urls.database, report)
  const { db } = database
  const upstream = createUpstreamClient({
    apiUrl: urls.upstream,
    webUrl: config.upstream.webUrl,
    skillSource: config.upstream.skillSource,
    skillVersion: VERSION,
    bodyCase: config.upstream.bodyCase,
    streaming: config.upstream.streaming,
    limits: { runMs: config.runs.limitMs, silenceMs: config.runs.silenceMs },
  })
  const vault = createTokenVault(config.tokenKeys ?? (await developmentKeys(config.dataDir)))
  const { hints } = config.events
  const log = await createEventLog({ database, url: urls.database, onError: report, hints })
  const retention = createRetention({ db, keepDays: config.events.keepDays })
  const jobs = await createJobs({ url: urls.database, onError: report })

  const { sharedToken, webUrl, rateLimitRetryMs } = config.upstream
  const sessions = createSessions({ db })
  const users = createUsers({ db, sessions })
  const accounts = createAccounts({ db, vault, upstream, sharedToken, webUrl, rateLimitRetryMs })
  const projects = createProjects({ db, log, accounts, upstream })
  const timelines = createTimelines({ db, log, projects, upstream })
  const credits = createCredits({ accounts, upstream })
  const { maxBytes } = config.uploads
  const uploads = createUploads({ db, log, accounts, projects, timelines, upstream, maxBytes })
  const { pollMs } = config.renders
  const renders = createRenders({ db, log, accounts, projects, timelines, upstream, pollMs, onError: report })
  let dispatcher: Dispatcher | undefined
  const runs = createRuns({
    db,
    log,
    accounts,
    projects,
    timelines,
    upstream,
    jobs,
    limits: config.runs,
    rateLimitRetryMs,
    onQueued: () => dispatcher?.wake(),
    onEnded: projectId => renders.wake(projectId),
  })
  const messages = createMessages({
    log,
    projects,
    runs,
    renders,
    timelines,
    credits,
    maxUploadBytes: maxBytes,
  })
  const idempotency = createIdempotency({ db })
  const services: Services = {
    users,
    sessions,
    accounts,
    projects,
    timelines,
    messages,
    runs,
    renders,
    uploads,
    credits,
    log,
    idempotency,
  }

  const isReady = async () =>
    !closing.signal.aborted &&
    (await readEpoch(db).then(
      () => true,
      () => false,
    ))
  http = await createHttp({ config, services, closing: closing.signal, isReady })

  renders.start()
  dispatcher = await jobs.work({
    run: (job, signal) => runs.work(job, signal),
    sweep: async () => {
      await sweepExpired(db)
      await sweepKeys(db)
      await uploads.sweepInterrupted(INTERRUPTED_UPLOAD_MS)
      await retention.runOnce()
    },
  })

  return {
    http,
    async close() {
      closing.abort()
      // A connection that sends nothing, or an upload that does not end, must not hold the process.
      const cut = setTimeout(() => http.server.closeAllConnections(), RUN_GRACE_MS)
      await Promise.all([http.close(), dispatcher.stop(RUN_GRACE_MS), renders.stop()])
      clearTimeout(cut)
      runs.close()
      await jobs.stop()
      await log.close()
      await upstream.close()
      await database.close()
    },
  }
}
