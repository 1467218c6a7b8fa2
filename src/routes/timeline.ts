import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { subtitles } from '../services/timeline/subtitles.ts'
import type { Timelines } from '../services/timeline/timeline.ts'
import { IdParams, named, oneOfWords, strict, Time } from './schemas.ts'

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

  app.get('/v1/projects/:id/subtitles', {
    config: { policy: 'signed-in' },
    schema: {
      tags: ['Projects'],
      summary: 'The text tracks as a subtitle file',
      params: IdParams,
      querystring: Type.Object({ format: Type.Optional(oneOfWords('srt', 'vtt')) }, strict),
      response: {
        200: {
          description: 'SubRip (the default) or WebVTT',
          content: {
            'application/x-subrip': { schema: Type.String() },
            'text/vtt': { schema: Type.String() },
          },
        },
      },
    },
    handler: async ({ session, params, query, platform }, reply) => {
      const timeline = await timelines.view(session.user.id, params.id, platform)
      const { format = 'srt' } = query
      const type = format === 'srt' ? 'application/x-subrip' : 'text/vtt'
      return reply
        .type(`${type}; charset=utf-8`)
        .serializer(String)
        .send(subtitles(timeline, format) as never)
    },
  })
}
