import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { MAX_TEXT, type Messages } from '../services/messages/messages.ts'
import { CreditsView } from './credits.ts'
import { Render } from './renders.ts'
import { Run } from './runs.ts'
import { IdParams, named, oneOf, oneOfWords, strict } from './schemas.ts'
import { Timeline } from './timeline.ts'

const RunAnswer = named('RunAnswer', Type.Object({ kind: Type.Literal('run'), run: Run }))
const RenderAnswer = named('RenderAnswer', Type.Object({ kind: Type.Literal('render'), render: Render }))
const CreditsAnswer = named(
  'CreditsAnswer',
  Type.Object({ kind: Type.Literal('credits'), credits: CreditsView }),
)
const TimelineAnswer = named(
  'TimelineAnswer',
  Type.Object({ kind: Type.Literal('timeline'), timeline: Timeline }),
)
const UploadAnswer = named(
  'UploadAnswer',
  Type.Object({
    kind: Type.Literal('upload'),
    accepts: Type.Array(Type.String()),
    maxBytes: Type.Integer(),
  }),
)
const MessageAnswer = oneOf('kind', {
  run: RunAnswer,
  render: RenderAnswer,
  credits: CreditsAnswer,
  timeline: TimelineAnswer,
  upload: UploadAnswer,
})

export const messageRoutes: FastifyPluginAsyncTypebox<{ messages: Messages }> = async (app, { messages }) => {
  app.post('/v1/projects/:id/messages', {
    config: { policy: 'signed-in', idempotent: true, budget: 'messages' },
    schema: {
      tags: ['Messages and runs'],
      summary: 'Say what to do: chat, export, credits, status or upload',
      params: IdParams,
      body: Type.Object(
        {
          text: Type.String({ minLength: 1, maxLength: MAX_TEXT, pattern: '\\S' }),
          intent: Type.Optional(oneOfWords('auto', 'chat')),
          whenBusy: Type.Optional(oneOfWords('queue', 'reject')),
        },
        strict,
      ),
      response: { 200: MessageAnswer, 202: MessageAnswer },
    },
    handler: async ({ session, platform, params, body, requestKey }, reply) => {
      const { text, intent = 'auto', whenBusy = 'queue' } = body
      const answer = await messages.send({ userId: session.user.id, platform }, params.id, {
        text,
        intent,
        whenBusy,
        ...(requestKey ? { requestKey } : {}),
      })
      return reply.code(answer.kind === 'run' || answer.kind === 'render' ? 202 : 200).send(answer)
    },
  })
}
