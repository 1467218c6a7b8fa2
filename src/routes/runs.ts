import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { Runs } from '../services/runs/runs.ts'
import { Id, IdPaging, IdParams, listOf, named, oneOfWords, strict, Time, UserState } from './schemas.ts'

export const Run = named(
  'Run',
  Type.Object({
    id: Id,
    projectId: Id,
    state: oneOfWords('queued', 'running', 'reconciling', 'completed', 'failed', 'stopped'),
    text: Type.String(),
    reply: Type.Optional(Type.String()),
    summary: Type.Optional(Type.String()),
    outcome: Type.Optional(oneOfWords('answered', 'edited', 'unchanged', 'unknown')),
    userState: Type.Optional(UserState),
    createdAt: Time,
    startedAt: Type.Optional(Time),
    finishedAt: Type.Optional(Time),
    credits: Type.Optional(
      Type.Object({ before: Type.Integer(), after: Type.Integer(), spent: Type.Integer() }),
    ),
  }),
)

const signedIn = { policy: 'signed-in' } as const
const tags = ['Messages and runs']

export const runRoutes: FastifyPluginAsyncTypebox<{ runs: Runs }> = async (app, { runs }) => {
  app.get('/v1/projects/:id/runs', {
    config: signedIn,
    schema: {
      tags,
      summary: 'The project’s runs, newest first',
      params: IdParams,
      querystring: Type.Object(IdPaging, strict),
      response: { 200: listOf(Run) },
    },
    handler: ({ session, params, query }) =>
      runs.list(session.user.id, params.id, query.after, query.limit ?? 50),
  })

  app.get('/v1/runs/:id', {
    config: signedIn,
    schema: { tags, summary: 'A run', params: IdParams, response: { 200: Run } },
    handler: ({ session, params }) => runs.get(session.user.id, params.id),
  })

  app.post('/v1/runs/:id/stop', {
    config: signedIn,
    schema: {
      tags,
      summary: 'Stop a run; the answer tells what became of it',
      params: IdParams,
      response: { 200: Run },
    },
    handler: ({ session, params }) => runs.stop(session.user.id, params.id),
  })
}
