import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { Credits } from '../services/credits.ts'
import { named } from './schemas.ts'

export const CreditsView = named(
  'Credits',
  Type.Object({
    available: Type.Number(),
    frozen: Type.Number({ description: 'Reserved by running work' }),
    total: Type.Number(),
    links: Type.Object({ register: Type.Optional(Type.String()), topUp: Type.Optional(Type.String()) }),
  }),
)

export const creditRoutes: FastifyPluginAsyncTypebox<{ credits: Credits }> = async (app, { credits }) => {
  app.get('/v1/credits', {
    config: { policy: 'signed-in' },
    schema: {
      tags: ['Credits'],
      summary: 'What is left to spend, and where to get more',
      response: { 200: CreditsView },
    },
    handler: ({ session, platform }) =>
      credits.read({ userId: session.user.id, platform }, session.user.language),
  })
}
