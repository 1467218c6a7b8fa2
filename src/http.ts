import { randomUUID } from 'node:crypto'
import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import swagger from '@fastify/swagger'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import type { Config } from './config.ts'
import { createLogger, VERSION } from './logger.ts'
import type { Metrics } from './metrics.ts'
import { handleError } from './problems.ts'
import { addAuthentication } from './routes/authenticate.ts'
import { limitConnections } from './routes/connections.ts'
import { addSecurityHeaders, DATA_HEADERS } from './routes/headers.ts'
import { addRoutes, type Services } from './routes/index.ts'
import { addJsonParser } from './routes/json-bodies.ts'
import { limitAddresses, limitUsers } from './routes/limits.ts'
import { MAX_FRAME_BYTES, SUBPROTOCOL } from './routes/live.ts'
import { endFailed } from './routes/live-socket.ts'
import { refuseMalformed } from './routes/malformed.ts'
import { addNotFound } from './routes/not-found.ts'
import { shedLoad } from './routes/overload.ts'
import { addTusDiscovery } from './routes/resumable.ts'
import { sharedSerializers } from './routes/serializers.ts'
import { refuseSlowBodies } from './routes/slow-bodies.ts'
import { dropSlowReaders } from './routes/slow-readers.ts'
import { traceRequests } from './routes/traces.ts'
import type { Tracing } from './tracing.ts'

const SIGNED_IN = [{ bearer: [] }, { cookie: [] }]
const SECURITY = {
  open: {},
  optional: { security: [{}, ...SIGNED_IN] },
  'signed-in': { security: SIGNED_IN },
  ops: { security: [{ operator: [] }] },
}
const MAX_BODY_BYTES = 1024 * 1024
const MAX_CONNECTIONS = 20_000
const HEADERS_MS = 8_000
const CHECK_CONNECTIONS_MS = 1_000

/** The HTTP server with every route on it. Listens to nothing yet. */
export async function createHttp(options: {
  config: Pick<Config, 'http' | 'logLevel'> & Partial<Pick<Config, 'opsToken' | 'events'>>
  services: Services
  closing: AbortSignal
  isReady(): Promise<boolean>
  metrics?: Metrics | null
  tracing?: Tracing | null
}): Promise<FastifyInstance> {
  const { config, services, closing, isReady, metrics = null, tracing = null } = options
  const app = Fastify({
    loggerInstance: createLogger(config.logLevel) as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => randomUUID(),
    trustProxy: config.http.trustProxy,
    bodyLimit: MAX_BODY_BYTES,
    // The body has limits of its own: an upload may take hours.
    http: { headersTimeout: HEADERS_MS, connectionsCheckingInterval: CHECK_CONNECTIONS_MS },
    clientErrorHandler: refuseMalformed,
    // What is no address at all meets no hook.
    frameworkErrors: (error, request, reply) => handleError(error, request, reply.headers(DATA_HEADERS)),
    forceCloseConnections: 'idle',
    ajv: { customOptions: { removeAdditional: false, coerceTypes: 'array', keywords: ['discriminator'] } },
    schemaController: { compilersFactory: { buildSerializer: sharedSerializers() } },
    routerOptions: { maxParamLength: 128 },
  })
  app.setErrorHandler(handleError)
  app.server.maxConnections = MAX_CONNECTIONS
  limitConnections(app, { perAddress: config.http.connectionsPerAddress, proxies: config.http.trustProxy })
  addNotFound(app)
  addSecurityHeaders(app)
  addJsonParser(app)
  refuseSlowBodies(app)
  dropSlowReaders(app)
  shedLoad(app)
  app.addHook('onResponse', async (request, reply) => {
    const { method, id, routeOptions } = request
    // The route's pattern, never the address: an address carries ids and tickets.
    const route = routeOptions.url ?? 'none'
    const line = { reqId: id, method, route, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }
    app.log.info(line, 'request')
    // A stream ends when its reader leaves, which says nothing of how fast it was answered.
    const streams = /\btext\/event-stream\b/.test(request.headers.accept ?? '')
    const seconds = streams ? null : reply.elapsedTime / 1_000
    metrics?.answered({ method, route, status: reply.statusCode, platform: request.platform, seconds })
  })
  if (tracing) traceRequests(app, tracing)

  await app.register(cookie)
  await app.register(websocket, {
    // Sockets are closed where they are served, with a code that tells a restart from a crash.
    preClose: done => done(),
    errorHandler: (error, socket, request) => endFailed(socket, request.log, error),
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
          operator: { type: 'http', scheme: 'bearer', description: 'OPS_TOKEN of the gateway' },
          cookie: { type: 'apiKey', in: 'cookie', name: '__Host-reelgate' },
        },
      },
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, i) => String(json.$id ?? `def-${i}`) },
    transform: ({ schema, url, route }) => ({
      url,
      schema: { ...schema, ...SECURITY[route.config?.policy ?? 'open'] },
    }),
  })
  const { opsToken = null } = config
  const { allowedOrigins } = config.http
  limitAddresses(app, services.limits)
  addAuthentication(app, services.sessions, { allowedOrigins, opsToken })
  limitUsers(app, services.limits)
  addTusDiscovery(app, services)
  await app.register(cors, {
    origin: allowedOrigins,
    credentials: true,
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders: [
      'location',
      'retry-after',
      'idempotent-replayed',
      'content-disposition',
      'tus-resumable',
      'tus-version',
      'tus-extension',
      'tus-max-size',
      'upload-offset',
      'upload-length',
      'upload-expires',
      'upload-metadata',
      'ratelimit',
      'ratelimit-policy',
    ],
    maxAge: 3_600,
  })
  const readersPerUser = config.events?.readersPerUser
  await addRoutes(app, services, { allowedOrigins, readersPerUser, closing, isReady, metrics })
  return app
}
