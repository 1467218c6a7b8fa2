import type { FastifyInstance } from 'fastify'
import type { Services } from '../app.ts'
import { authRoutes, User } from './auth.ts'
import { addAuthentication } from './authenticate.ts'
import { CreditsView, creditRoutes } from './credits.ts'
import { docRoutes } from './docs.ts'
import { Entry, eventRoutes } from './events.ts'
import { healthRoutes } from './health.ts'
import { addIdempotency } from './idempotency.ts'
import { liveRoutes } from './live.ts'
import { meRoutes } from './me.ts'
import { messageAnswers, messageRoutes } from './messages.ts'
import { Project, projectRoutes } from './projects.ts'
import { createReaders } from './readers.ts'
import { Render, renderRoutes } from './renders.ts'
import { Run, runRoutes } from './runs.ts'
import { Problem, problemResponse, StoredProblem, UserState } from './schemas.ts'
import { Timeline, timelineRoutes } from './timeline.ts'
import { Upload, uploadRoutes } from './uploads.ts'

const SCHEMAS = [
  UserState,
  StoredProblem,
  Problem,
  User,
  Project,
  Timeline,
  Run,
  Render,
  Upload,
  CreditsView,
  Entry,
  ...messageAnswers,
]

/** The table of contents: every route of the gateway, in front of each its policy, behind it one service. */
export async function addRoutes(
  app: FastifyInstance,
  services: Services,
  options: { allowedOrigins: string[]; closing: AbortSignal; isReady(): Promise<boolean> },
) {
  for (const schema of SCHEMAS) app.addSchema(schema)
  app.addHook('onRoute', route => {
    if (route.schema && !route.schema.hide)
      route.schema.response = {
        '4xx': problemResponse,
        '5xx': problemResponse,
        ...(route.schema.response as object),
      }
  })
  addAuthentication(app, services.sessions, options.allowedOrigins)
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
  await app.register(liveRoutes, { ...services, ...options, readers })
  await app.register(uploadRoutes, services)
  await app.register(renderRoutes, services)
  await app.register(creditRoutes, services)
}
