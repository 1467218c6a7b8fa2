import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import Type from 'typebox'
import type { Renders } from '../services/renders/renders.ts'
import {
  Id,
  IdPaging,
  IdParams,
  listOf,
  named,
  oneOfWords,
  PathId,
  StoredProblem,
  strict,
  Time,
} from './schemas.ts'

const State = oneOfWords('queued', 'submitting', 'rendering', 'completed', 'failed', 'cancelled')

export const Render = named(
  'Render',
  Type.Object({
    id: Id,
    projectId: Id,
    state: State,
    progress: Type.Integer({ minimum: 0, maximum: 100 }),
    attempts: Type.Integer(),
    revision: Type.Integer(),
    stale: Type.Boolean({ description: 'The timeline has changed since' }),
    needsUser: Type.Boolean({
      description:
        'It waits until the user has done what `problem.userState` says, and then goes on by itself',
    }),
    problem: Type.Optional(StoredProblem),
    file: Type.Optional(
      Type.Object({
        href: Type.String(),
        bytes: Type.Optional(Type.Integer()),
        durationMs: Type.Optional(Type.Integer()),
      }),
    ),
    createdAt: Time,
    submittedAt: Type.Optional(Time),
    completedAt: Type.Optional(Time),
  }),
)

const signedIn = { policy: 'signed-in' } as const
const tags = ['Renders']

export const renderRoutes: FastifyPluginAsyncTypebox<{ renders: Renders }> = async (app, { renders }) => {
  app.post('/v1/projects/:id/renders', {
    config: { ...signedIn, idempotent: true, budget: 'renders' },
    schema: {
      tags,
      summary: 'Export the project; followed to its end whoever watches',
      params: IdParams,
      body: Type.Object(
        {
          format: Type.Optional(oneOfWords('mp4')),
          quality: Type.Optional(Type.String({ pattern: '^[a-z0-9_-]{1,32}$', default: 'high' })),
        },
        strict,
      ),
      response: { 202: Render },
    },
    // Everything has a default, so the body may be left out.
    preValidation: async request => {
      request.body ??= {}
    },
    handler: async ({ session, platform, params, body, requestKey }, reply) => {
      const render = await renders.create({ userId: session.user.id, platform }, params.id, {
        ...body,
        ...(requestKey ? { requestKey } : {}),
      })
      return reply.code(202).header('location', `/v1/renders/${render.id}`).send(render)
    },
  })

  app.get('/v1/renders', {
    config: signedIn,
    schema: {
      tags,
      summary: 'The user’s renders, newest first',
      querystring: Type.Object(
        { ...IdPaging, state: Type.Optional(State), projectId: Type.Optional(PathId) },
        strict,
      ),
      response: { 200: listOf(Render) },
    },
    handler: ({ session, query: { limit = 50, ...filter } }) =>
      renders.list(session.user.id, { ...filter, limit }),
  })

  app.get('/v1/renders/:id', {
    config: signedIn,
    schema: { tags, summary: 'A render', params: IdParams, response: { 200: Render } },
    handler: ({ session, params }) => renders.get(session.user.id, params.id),
  })

  app.post('/v1/renders/:id/cancel', {
    config: signedIn,
    schema: {
      tags,
      summary: 'Cancel a render; one at work may still complete, which its events tell',
      params: IdParams,
      response: { 200: Render },
    },
    handler: ({ session, params }) => renders.cancel(session.user.id, params.id),
  })

  app.post('/v1/renders/:id/retry', {
    config: { ...signedIn, idempotent: true, budget: 'renders' },
    schema: {
      tags,
      summary: 'One attempt more for a failed render; a lost one is asked for first',
      params: IdParams,
      response: { 202: Render },
    },
    handler: async ({ session, platform, params }, reply) =>
      reply.code(202).send(await renders.retry({ userId: session.user.id, platform }, params.id)),
  })

  async function openFile(request: FastifyRequest<{ Params: { id: string } }>, reply: FastifyReply) {
    const gone = new AbortController()
    reply.raw.once('close', () => gone.abort())
    const { range = null, 'if-range': ifRange = null, 'if-none-match': ifNoneMatch = null } = request.headers
    const file = await renders.file(request.session.user.id, request.params.id, {
      range,
      ifRange: ifRange === null ? null : String(ifRange),
      ifNoneMatch,
      signal: gone.signal,
    })
    reply.code(file.status).headers(file.headers)
    return file.body
  }

  const fileSchema = {
    tags,
    params: IdParams,
    headers: Type.Object({
      range: Type.Optional(Type.String()),
      'if-range': Type.Optional(Type.String()),
      'if-none-match': Type.Optional(Type.String()),
    }),
    response: {
      200: {
        description: 'The film',
        content: { 'video/mp4': { schema: Type.Unsafe({ type: 'string', format: 'binary' }) } },
      },
      206: {
        description: 'The range of it that was asked for',
        content: { 'video/mp4': { schema: Type.Unsafe({ type: 'string', format: 'binary' }) } },
      },
      304: Type.Null({ description: 'The film is the one that `If-None-Match` names' }),
      416: Type.Null({ description: 'The film ends before this range' }),
    },
  }

  app.get('/v1/renders/:id/file', {
    config: signedIn,
    exposeHeadRoute: false,
    schema: { ...fileSchema, summary: 'The finished film, with ranges' },
    handler: async (request, reply) => reply.send(await openFile(request, reply)),
  })

  app.head('/v1/renders/:id/file', {
    config: signedIn,
    schema: { ...fileSchema, summary: 'How large the finished film is' },
    handler: async (request, reply) => {
      const body = await openFile(request, reply)
      // Nobody wants the bytes, and the whole film would be fetched for nothing.
      body.on('error', () => {}).destroy()
      return reply.send()
    },
  })
}
