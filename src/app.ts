import type { FastifyInstance } from 'fastify'
import type { Config } from './config.ts'
import { sweepAccounts } from './db/account-links.ts'
import { openDatabase } from './db/client.ts'
import { readEpoch } from './db/event-epoch.ts'
import { sweepKeys } from './db/idempotency.ts'
import { createLocks } from './db/locks.ts'
import { declareBudget } from './db/mints.ts'
import { sweepExpired } from './db/users.ts'
import { createHttp } from './http.ts'
import { VERSION } from './logger.ts'
import { createMetrics } from './metrics.ts'
import { observeJobs, observeLog, observeRenders, observeUpstream } from './observe.ts'
import type { Services } from './routes/index.ts'
import { createAccounts } from './services/accounts/accounts.ts'
import { developmentKeys } from './services/accounts/token-keys.ts'
import { createTokenVault } from './services/accounts/token-vault.ts'
import { createAgui } from './services/agui/agui.ts'
import { createCredits } from './services/credits.ts'
import { createEventLog } from './services/events/log.ts'
import { createRetention } from './services/events/retention.ts'
import { createIdempotency } from './services/idempotency.ts'
import type { Dispatcher } from './services/jobs/dispatcher.ts'
import { createJobs } from './services/jobs/jobs.ts'
import { createLimits } from './services/limits.ts'
import { createMessages } from './services/messages/messages.ts'
import { createOps } from './services/ops.ts'
import { createProjects } from './services/projects.ts'
import { openCopies } from './services/renders/copies.ts'
import { createRenders } from './services/renders/renders.ts'
import { createRuns } from './services/runs/runs.ts'
import { createTimelines } from './services/timeline/timeline.ts'
import { openResumable } from './services/uploads/open-resumable.ts'
import { createUploads } from './services/uploads/uploads.ts'
import { createUpstreamClient } from './services/upstream/client.ts'
import { createIdTokens } from './services/users/id-tokens.ts'
import { createSessions } from './services/users/sessions.ts'
import { createSignIn } from './services/users/sign-in.ts'
import { createUsers } from './services/users/users.ts'
import { createTracing } from './tracing.ts'

export interface App {
  http: FastifyInstance
  /** Not ready, sockets told to come back, work ended or handed over, everything closed. Ends within 25 s. */
  close(): Promise<void>
}

const RUN_GRACE_MS = 12_000
const INTERRUPTED_UPLOAD_MS = 10 * 60_000
const HOUR_MS = 3_600_000

/** Makes every part, each with the parts it needs, and starts the workers. `close` undoes it in reverse. */
export async function createApp(config: Config, urls: { database: string; upstream: string }): Promise<App> {
  const closing = new AbortController()
  const report = (error: unknown) => http?.log.warn({ err: error }, 'background work failed')
  let http: FastifyInstance | undefined

  const database = openDatabase(urls.database, report)
  const { db } = database
  const { mintsPerWeek } = config.upstream
  await declareBudget(db, mintsPerWeek)
  const pools = { main: database.pool, tenants: database.tenants.pool }
  const metrics = config.opsToken === null ? null : createMetrics({ db, pools })
  const tracing = config.traces.endpoint === null ? null : await createTracing(config.traces.endpoint)
  const observers = { metrics, tracing }
  const client = createUpstreamClient({
    apiUrl: urls.upstream,
    webUrl: config.upstream.webUrl,
    skillSource: config.upstream.skillSource,
    skillVersion: VERSION,
    bodyCase: config.upstream.bodyCase,
    streaming: config.upstream.streaming,
    limits: { runMs: config.runs.limitMs, silenceMs: config.runs.silenceMs },
  })
  const upstream = observeUpstream(client, observers)
  const vault = createTokenVault(config.tokenKeys ?? (await developmentKeys(config.dataDir)))
  const { hints, keepDays } = config.events
  const onOffered = metrics?.offered
  const log = observeLog(
    await createEventLog({ database, url: urls.database, onError: report, hints, onOffered }),
    observers,
  )
  const retention = createRetention({ db, keepDays })
  const jobs = observeJobs(
    await createJobs({ url: urls.database, onError: report, traceparent: tracing?.traceparent }),
    tracing,
  )

  const { sharedToken, webUrl, rateLimitRetryMs } = config.upstream
  const sessions = createSessions({ db })
  const users = createUsers({ db, sessions })
  const accounts = createAccounts({
    db,
    vault,
    upstream,
    sharedToken,
    webUrl,
    rateLimitRetryMs,
    mintsPerWeek,
    onError: report,
    onSharedRefused: () => metrics?.sharedTokenRefused(),
  })
  const idTokens = config.oidc && createIdTokens(config.oidc)
  const signIn = createSignIn({ db, sessions, accounts, idTokens })
  const projects = createProjects({ db, log, accounts, upstream })
  const timelines = createTimelines({ db, log, projects, upstream })
  const credits = createCredits({ accounts, upstream })
  const { maxBytes } = config.uploads
  const locks = createLocks(urls.database, report)
  const uploads = createUploads({ db, log, accounts, projects, timelines, upstream, maxBytes })
  const resumable = await openResumable({
    db,
    log,
    accounts,
    projects,
    timelines,
    upstream,
    jobs,
    locks,
    config,
    onError: report,
  })
  const { pollMs } = config.renders
  const copies = config.renders.keep ? await openCopies({ dataDir: config.dataDir, ...config.renders }) : null
  const renders = createRenders({
    db,
    log,
    accounts,
    projects,
    timelines,
    upstream,
    pollMs,
    onError: report,
    ...(tracing && { trace: observeRenders(tracing) }),
    ...(copies && { keep: { copies, enqueue: jobs.enqueueCopy } }),
  })
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
  const agui = createAgui({ db, log, projects, messages, runs })
  const idempotency = createIdempotency({ db })
  const limits = createLimits({ pool: database.pool, ...config.limits })
  const services: Services = {
    users,
    sessions,
    signIn,
    accounts,
    projects,
    timelines,
    messages,
    agui,
    runs,
    renders,
    uploads,
    resumable,
    credits,
    log,
    idempotency,
    ops: createOps({ db, renders }),
    limits,
  }

  const isReady = async () =>
    !closing.signal.aborted &&
    (await readEpoch(db).then(
      () => true,
      () => false,
    ))
  http = await createHttp({ config, services, closing: closing.signal, isReady, metrics, tracing })
  if (!(await database.tenants.guarded()))
    http.log.warn('the role reelgate_app is not there: row level security does not apply (docs/security.md)')

  renders.start()
  resumable.start()
  dispatcher = await jobs.work({
    run: runs.work,
    ...(copies && { copy: renders.copy }),
    sweep: async () => {
      await sweepExpired(db)
      await sweepKeys(db)
      await sweepAccounts(db)
      await uploads.sweepInterrupted(INTERRUPTED_UPLOAD_MS)
      await retention.runOnce()
    },
  })

  // Each instance has a folder of its own, or they share one.
  const sweepCopies = () => void renders.sweepCopies().catch(report)
  sweepCopies()
  const hourly = setInterval(sweepCopies, HOUR_MS).unref()

  return {
    http,
    async close() {
      closing.abort()
      clearInterval(hourly)
      // A connection that sends nothing, or an upload that does not end, must not hold the process.
      const cut = setTimeout(() => http.server.closeAllConnections(), RUN_GRACE_MS)
      await Promise.all([http.close(), dispatcher.stop(RUN_GRACE_MS), renders.stop(), resumable.stop()])
      clearTimeout(cut)
      runs.close()
      await jobs.stop()
      await locks.close()
      await log.close()
      await upstream.close()
      await database.close()
      await tracing?.close()
    },
  }
}
