import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import Type from 'typebox'
import type { Sessions } from '../services/users/sessions.ts'
import type { SignIn } from '../services/users/sign-in.ts'
import type { Users, User as ViewOfUser } from '../services/users/users.ts'
import { COOKIE } from './authenticate.ts'
import { Id, named, oneOfWords, strict, Time } from './schemas.ts'

export const User = named(
  'User',
  Type.Object({
    id: Id,
    kind: oneOfWords('guest', 'account'),
    language: Type.String(),
    createdAt: Time,
    email: Type.Optional(Type.String()),
  }),
)

const SignedIn = named(
  'SignedIn',
  Type.Object({
    user: User,
    token: Type.Optional(Type.String({ description: 'Shown once; absent when a cookie was set' })),
    expiresAt: Time,
  }),
)

const Ticket = named('Ticket', Type.Object({ ticket: Type.String(), expiresAt: Time }))

/** RFC 5646 §4.4.1: a longest tag that means something. */
export const MAX_LANGUAGE_LENGTH = 35

const cookieOptions = { path: '/', secure: true, httpOnly: true, sameSite: 'lax' } as const

/** Signing in and out, and tickets for WebSockets. */
export const authRoutes: FastifyPluginAsyncTypebox<{
  users: Users
  sessions: Sessions
  signIn: SignIn
}> = async (app, { users, sessions, signIn }) => {
  function sendSession(
    reply: FastifyReply,
    delivery: 'bearer' | 'cookie',
    { user, token, expiresAt }: { user: ViewOfUser; token: string; expiresAt: Date },
  ) {
    if (delivery === 'cookie') reply.setCookie(COOKIE, token, { ...cookieOptions, expires: expiresAt })
    return reply.code(201).send({
      user,
      ...(delivery === 'bearer' ? { token } : {}),
      expiresAt: expiresAt.toISOString(),
    })
  }

  app.post('/v1/auth/guest', {
    config: { policy: 'open', budget: 'guests' },
    schema: {
      tags: ['Signing in'],
      summary: 'Sign in as a new guest',
      body: Type.Object({ delivery: oneOfWords('bearer', 'cookie') }, strict),
      response: { 201: SignedIn },
    },
    handler: async (request, reply) => {
      const { delivery } = request.body
      const guest = await users.createGuest({ delivery, language: languageOf(request) })
      return sendSession(reply, delivery, guest)
    },
  })

  app.post('/v1/auth/oidc', {
    config: { policy: 'optional', budget: 'sign-ins' },
    schema: {
      tags: ['Signing in'],
      summary: 'Sign in with an ID token; a guest who does becomes the account, with all it has',
      body: Type.Object(
        {
          idToken: Type.String({ minLength: 1, maxLength: 16_384 }),
          nonce: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })),
          delivery: oneOfWords('bearer', 'cookie'),
        },
        strict,
      ),
      response: { 201: SignedIn },
    },
    handler: async (request, reply) => {
      const { delivery } = request.body
      const session = await signIn.withIdToken({
        ...request.body,
        language: languageOf(request),
        caller: request.session,
      })
      return sendSession(reply, delivery, session)
    },
  })

  app.post('/v1/auth/tickets', {
    config: { policy: 'signed-in', budget: 'tickets' },
    schema: {
      tags: ['Signing in'],
      summary: 'A ticket that opens one WebSocket within 30 seconds',
      response: { 201: Ticket },
    },
    handler: async (request, reply) => {
      const { ticket, expiresAt } = await sessions.issueTicket(request.session.sessionId)
      return reply.code(201).send({ ticket, expiresAt: expiresAt.toISOString() })
    },
  })

  app.delete('/v1/auth/session', {
    config: { policy: 'signed-in' },
    schema: { tags: ['Signing in'], summary: 'Sign out', response: { 204: Type.Null() } },
    handler: async (request, reply) => {
      await sessions.close(request.session.sessionId)
      return reply.clearCookie(COOKIE, cookieOptions).code(204).send(null)
    },
  })
}

/** The first language the client asks for; English when it asks for none. */
export function languageOf(request: FastifyRequest): string {
  const first = request.headers['accept-language']?.split(',')[0]?.split(';')[0]?.trim() ?? ''
  return first.length <= MAX_LANGUAGE_LENGTH && /^[a-z]{2,3}(-[a-z0-9]{2,8})*$/i.test(first) ? first : 'en'
}
