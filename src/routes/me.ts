import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import type { Accounts } from '../services/accounts/accounts.ts'
import { toUser } from '../services/users/users.ts'
import { User } from './auth.ts'
import { named, oneOfWords, strict, Time } from './schemas.ts'

const Me = named(
  'Me',
  Type.Object({
    user: User,
    upstream: Type.Object({
      kind: oneOfWords('anonymous', 'linked', 'shared', 'none'),
      state: oneOfWords('ready', 'reauth_required', 'rate_limited', 'none'),
      retryAt: Type.Optional(Time),
    }),
  }),
)

const Link = Type.Object(
  {
    token: Type.String({
      pattern: '^[!-~]+$',
      maxLength: 4096,
      description: 'A NemoVideo token of the user; it is never shown again',
    }),
  },
  strict,
)

export const meRoutes: FastifyPluginAsyncTypebox<{ accounts: Accounts }> = async (app, { accounts }) => {
  const me = async ({ user }: FastifyRequest['session']) => ({
    user: toUser(user),
    upstream: await accounts.status({ userId: user.id }),
  })

  app.get('/v1/me', {
    config: { policy: 'signed-in' },
    schema: { tags: ['Signing in'], summary: 'The signed-in user', response: { 200: Me } },
    handler: ({ session }) => me(session),
  })

  app.put('/v1/me/upstream', {
    config: { policy: 'signed-in' },
    schema: {
      tags: ['Signing in'],
      summary: 'Link the user’s own NemoVideo account',
      description:
        'The token is tried first; one that is not accepted changes nothing. Projects stay in the account that they were made in, with its credits; new ones are made in this one.',
      body: Link,
      response: { 200: Me },
    },
    handler: async ({ session, platform, body }) => {
      const { id, language } = session.user
      await accounts.link({ userId: id, platform }, body.token, language)
      return me(session)
    },
  })

  app.delete('/v1/me/upstream', {
    config: { policy: 'signed-in' },
    schema: {
      tags: ['Signing in'],
      summary: 'Unlink it; what served the user before serves again',
      description:
        'Its token is forgotten. Projects that were made in it, and their renders, wait until it is linked again.',
      response: { 200: Me },
    },
    handler: async ({ session }) => {
      await accounts.unlink(session.user.id)
      return me(session)
    },
  })
}
