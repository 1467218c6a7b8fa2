import { randomUUID } from 'node:crypto'
import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import swagger from '@fastify/swagger'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import type { Config } from './config.ts'
import { createLogger, VERSION } from './logger.ts'
import { handleError, handleNotFound } from './problems.ts'
import { addAuthentication } from './routes/authenticate.ts'
import { addRoutes, type Services } from './routes/index.ts'
import { MAX_FRAME_BYTES, SUBPROTOCOL } from './routes/live.ts'

const MAX_BODY_BYTES = 1024 * 1024

/** The HTTP server with every route on it. Listens to nothing yet. */
export async function createHttp(options: {
  config: Pick<Config, 'http' | 'logLevel'> & Partial<Pick<Config, 'events'>>
  services: Services
  closing: AbortSignal
  isReady(): Promise<boolean>
}): Promise<FastifyInstance> {
  const { config, services, closing, isReady } = options
  const app = Fastify({
    loggerInstance: createLogger(config.logLevel) as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => randomUUID(),
    trustProxy: config.http.trustProxy,
    bodyLimit: MAX_BODY_BYTES,
    forceCloseConnections: 'idle',
    ajv: { customOptions: { removeAdditional: false, coerceTypes: 'array', keywords: ['discriminator'] } },
    routerOptions: { maxParamLength: 128 },
  })
  app.setErrorHandler(handleError)
  app.setNotFoundHandler({ preHandler: [] }, handleNotFound)
  app.addHook('onResponse', async (request, reply) => {
    const { method, id, routeOptions } = request
    // The route's pattern, never the address: an address carries ids and tickets.
    const route = routeOptions.url ?? 'none'
    const line = { reqId: id, method, route, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }
    app.log.info(line, 'request')
  })

  await app.register(cookie)
  await app.register(websocket, {
    // Sockets are closed where they are served, with a code that tells a restart from a crash.
    preClose: done => done(),
    options: {
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
      handleProtocols: (protocols: Set<string>) => (protocols.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    },
  })
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'reelgate',
        version: VERSION,
        description: 'One stable API between client apps and a cloud AI that edits video by chat.',
      },
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer' },
          cookie: { type: 'apiKey', in: 'cookie', name: '__Host-reelgate' },
        },
      },
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, i) => String(json.$id ?? `def-${i}`) },
    transform: ({ schema, url, route }) => ({
      url,
      schema:
        route.config?.policy === 'signed-in'
          ? { ...schema, security: [{ bearer: [] }, { cookie: [] }] }
          : schema,
    }),
  })
  addAuthentication(app, services.sessions, config.http.allowedOrigins)
  await app.register(cors, {
    origin: config.http.allowedOrigins,
    credentials: true,
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders: ['location', 'retry-after', 'idempotent-replayed', 'content-disposition'],
    maxAge: 3_600,
  })
  await addRoutes(app, services, {
    allowedOrigins: config.http.allowedOrigins,
    readersPerUser: config.events?.readersPerUser,
    closing,
    isReady,
  })
  return app
}
