import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { Timelines } from '../services/timeline/timeline.ts'
import { IdParams, named, oneOfWords, Time } from './schemas.ts'

export const Timeline = named(
  'Timeline',
  Type.Object({
    tracks: Type.Array(
      Type.Object({
        kind: oneOfWords('video', 'audio', 'text', 'unknown'),
        segments: Type.Array(
          Type.Object({
            startMs: Type.Number(),
            durationMs: Type.Number(),
            title: Type.Optional(Type.String()),
            text: Type.Optional(Type.String()),
            volume: Type.Optional(Type.Number()),
          }),
        ),
      }),
    ),
    durationMs: Type.Number(),
    exportable: Type.Boolean(),
    summary: Type.String(),
    revision: Type.Integer(),
    fetchedAt: Time,
  }),
)

export const timelineRoutes: FastifyPluginAsyncTypebox<{ timelines: Timelines }> = async (
  app,
  { timelines },
) => {
  app.get('/v1/projects/:id/timeline', {
    config: { policy: 'signed-in' },
    schema: {
      tags: ['Projects'],
      summary: 'The project’s timeline, read afresh when the backend answers',
      params: IdParams,
      response: { 200: Timeline },
    },
    handler: ({ session, params, platform }) => timelines.view(session.user.id, params.id, platform),
  })
}
