import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import Type, { type Static } from 'typebox'
import { ProblemError } from '../problems.ts'
import type { EventLog } from '../services/events/log.ts'
import type { Projects } from '../services/projects.ts'
import type { Sessions } from '../services/users/sessions.ts'
import { credentialOf, isAllowedOrigin } from './authenticate.ts'
import { type LiveSocket, serveLive, Text } from './live-socket.ts'
import type { Readers } from './readers.ts'
import { strict } from './schemas.ts'

export const SUBPROTOCOL = 'reelgate.v1'
export const MAX_FRAME_BYTES = 64 * 1024

const Query = Type.Object({ ticket: Type.Optional(Text) }, strict)

const SIGNED_IN_MS = 2_000

interface Options {
  log: EventLog
  projects: Projects
  sessions: Sessions
  readers: Readers
  allowedOrigins: string[]
  /** Aborted when the instance goes down. */
  closing: AbortSignal
}

/** `GET /v1/live`: a WebSocket that reads the logs of the user's projects. */
export const liveRoutes: FastifyPluginAsyncTypebox<Options> = async (app, options) => {
  const { sessions, readers, allowedOrigins, closing } = options
  const sockets = new Set<LiveSocket>()

  const signedInCheck = setInterval(
    () => readers.closeSignedOut(sessions).catch(error => app.log.warn({ err: error })),
    SIGNED_IN_MS,
  )
  closing.addEventListener('abort', () => {
    for (const live of sockets) live.close('restart')
  })
  app.addHook('onClose', async () => clearInterval(signedInCheck))

  // A page of another site can open a socket with the user's cookie, but not from an allowed origin. Every browser
  // names the origin of a socket: whoever brings a cookie and none is no page of ours.
  const refuseForeignPage = async (request: FastifyRequest<{ Querystring: Static<typeof Query> }>) => {
    const { token, fromCookie } = credentialOf(request)
    if (!token || !fromCookie) return
    const byCookie = !request.query.ticket
    if ((byCookie && request.headers.origin === undefined) || !isAllowedOrigin(request, allowedOrigins))
      throw new ProblemError('csrf_required', 'With the cookie, name an allowed origin.')
  }

  app.get<{ Querystring: Static<typeof Query> }>(
    '/v1/live',
    {
      // The credential may come in the first frame, so the socket itself asks for it.
      config: { policy: 'open', budget: 'sockets' },
      websocket: true,
      schema: {
        tags: ['Events'],
        summary: `WebSocket (subprotocol ${SUBPROTOCOL}): live entries of several projects`,
        querystring: Query,
      },
      preValidation: refuseForeignPage,
    },
    (socket, request) => {
      const live = serveLive(socket, request, { ...options, onClosed: () => sockets.delete(live) })
      sockets.add(live)
      if (closing.aborted) live.close('restart')
    },
  )
}
