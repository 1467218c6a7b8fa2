import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { Accounts } from '../services/accounts/accounts.ts'
import { toUser } from '../services/users/users.ts'
import { User } from './auth.ts'
import { named, oneOfWords, Time } from './schemas.ts'

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

export const meRoutes: FastifyPluginAsyncTypebox<{ accounts: Accounts }> = async (app, { accounts }) => {
  app.get('/v1/me', {
    config: { policy: 'signed-in' },
    schema: { tags: ['Signing in'], summary: 'The signed-in user', response: { 200: Me } },
    handler: async ({ session: { user } }) => ({
      user: toUser(user),
      upstream: await accounts.status(user.id),
    }),
  })
}
