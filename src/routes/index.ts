import type { FastifyInstance } from 'fastify'
import { notFound, ProblemError } from '../problems.ts'
import type { Accounts } from '../services/accounts/accounts.ts'
import type { Agui } from '../services/agui/agui.ts'
import type { Credits } from '../services/credits.ts'
import type { EventLog } from '../services/events/log.ts'
import type { Idempotency } from '../services/idempotency.ts'
import type { Limits } from '../services/limits.ts'
import type { Messages } from '../services/messages/messages.ts'
import type { Ops } from '../services/ops.ts'
import type { Projects } from '../services/projects.ts'
import type { Renders } from '../services/renders/renders.ts'
import type { Runs } from '../services/runs/runs.ts'
import type { Timelines } from '../services/timeline/timeline.ts'
import type { Resumable } from '../services/uploads/resumable.ts'
import type { Uploads } from '../services/uploads/uploads.ts'
import type { Sessions } from '../services/users/sessions.ts'
import type { SignIn } from '../services/users/sign-in.ts'
import type { Users } from '../services/users/users.ts'
import { aguiRoutes } from './agui.ts'
import { authRoutes } from './auth.ts'
import { creditRoutes } from './credits.ts'
import { docRoutes } from './docs.ts'
import { eventRoutes } from './events.ts'
import { healthRoutes } from './health.ts'
import { addIdempotency } from './idempotency.ts'
import { liveRoutes } from './live.ts'
import { meRoutes } from './me.ts'
import { messageRoutes } from './messages.ts'
import { type MetricsPage, metricsRoutes } from './metrics.ts'
import { opsRoutes } from './ops.ts'
import { projectRoutes } from './projects.ts'
import { createReaders } from './readers.ts'
import { renderRoutes } from './renders.ts'
import { resumableRoutes } from './resumable.ts'
import { runRoutes } from './runs.ts'
import { namedSchemas, problemResponse } from './schemas.ts'
import { timelineRoutes } from './timeline.ts'
import { uploadRoutes } from './uploads.ts'

/** Everything a route may ask for. */
export interface Services {
  users: Users
  sessions: Sessions
  signIn: SignIn
  accounts: Accounts
  projects: Projects
  timelines: Timelines
  messages: Messages
  agui: Agui
  runs: Runs
  renders: Renders
  uploads: Uploads
  resumable: Resumable
  credits: Credits
  log: EventLog
  idempotency: Idempotency
  ops: Ops
  limits: Limits
}

/** The table of contents: every route of the gateway, in front of each its policy, behind it one service. */
export async function addRoutes(
  app: FastifyInstance,
  services: Services,
  options: {
    allowedOrigins: string[]
    closing: AbortSignal
    isReady(): Promise<boolean>
    /** Null: nobody is an operator, and what is for them does not exist. */
    metrics: (MetricsPage & { countReaders(count: () => number): void }) | null
  },
) {
  for (const schema of namedSchemas) app.addSchema(schema)
  app.setSchemaErrorFormatter((errors, part) =>
    // A path holds nothing but ids, and what is no id at all is as absent as one that is nobody's.
    part === 'params' ? notFound() : invalidRequest(errors[0], part),
  )
  app.addHook('onRoute', route => {
    if (route.schema && !route.schema.hide)
      route.schema.response = {
        '4xx': problemResponse,
        '5xx': problemResponse,
        ...(route.schema.response as object),
      }
  })
  addIdempotency(app, services.idempotency)
  const readers = createReaders()

  await app.register(healthRoutes, { isReady: options.isReady })
  await app.register(docRoutes)

  await app.register(authRoutes, services)
  await app.register(meRoutes, services)
  await app.register(projectRoutes, services)
  await app.register(timelineRoutes, services)
  await app.register(messageRoutes, services)
  await app.register(runRoutes, services)
  await app.register(eventRoutes, { ...services, readers, closing: options.closing })
  await app.register(aguiRoutes, { ...services, readers, closing: options.closing })
  await app.register(liveRoutes, { ...services, ...options, readers })
  await app.register(uploadRoutes, services)
  await app.register(resumableRoutes, services)
  await app.register(renderRoutes, services)
  await app.register(creditRoutes, services)
  if (options.metrics) {
    options.metrics.countReaders(readers.count)
    await app.register(opsRoutes, services)
    await app.register(metricsRoutes, { metrics: options.metrics })
  }
}

function invalidRequest(error: { instancePath: string; message?: string } | undefined, part: string) {
  return new ProblemError(
    'invalid_request',
    `${part}${error?.instancePath ?? ''} ${error?.message ?? ''}`.trim(),
  )
}
