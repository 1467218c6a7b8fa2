import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { Projects } from '../services/projects.ts'
import { languageOf, MAX_LANGUAGE_LENGTH } from './auth.ts'
import { Id, IdPaging, IdParams, listOf, named, strict, Time } from './schemas.ts'

export const Project = named(
  'Project',
  Type.Object({
    id: Id,
    name: Type.String(),
    language: Type.String(),
    summary: Type.Union([Type.String(), Type.Null()]),
    exportable: Type.Boolean(),
    revision: Type.Integer(),
    createdAt: Time,
    lastActivityAt: Time,
    cursor: Type.Optional(Type.String({ description: 'Where events continue this snapshot' })),
  }),
)

const ClaimLink = named('ClaimLink', Type.Object({ url: Type.String(), expiresAt: Time }))

const Name = Type.String({ minLength: 1, maxLength: 200 })
const Language = Type.String({
  pattern: '^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$',
  maxLength: MAX_LANGUAGE_LENGTH,
})
const signedIn = { policy: 'signed-in' } as const
const tags = ['Projects']

export const projectRoutes: FastifyPluginAsyncTypebox<{ projects: Projects }> = async (app, { projects }) => {
  app.post('/v1/projects', {
    config: { ...signedIn, idempotent: true },
    schema: {
      tags,
      summary: 'Create a project',
      body: Type.Object({ name: Type.Optional(Name), language: Type.Optional(Language) }, strict),
      response: { 201: Project },
    },
    handler: async (request, reply) => {
      const { name, language = languageOf(request) } = request.body
      const project = await projects.create(request.session.user.id, { language, ...(name ? { name } : {}) })
      return reply.code(201).header('location', `/v1/projects/${project.id}`).send(project)
    },
  })

  app.get('/v1/projects', {
    config: signedIn,
    schema: {
      tags,
      summary: 'The user’s projects, newest first',
      querystring: Type.Object(IdPaging, strict),
      response: { 200: listOf(Project) },
    },
    handler: ({ session, query }) => projects.list(session.user.id, query.after, query.limit ?? 50),
  })

  app.get('/v1/projects/:id', {
    config: signedIn,
    schema: {
      tags,
      summary: 'A project, with the cursor from which events continue it',
      params: IdParams,
      response: { 200: Project },
    },
    handler: ({ session, params }) => projects.get(session.user.id, params.id),
  })

  app.patch('/v1/projects/:id', {
    config: signedIn,
    schema: {
      tags,
      summary: 'Rename a project',
      params: IdParams,
      body: Type.Object({ name: Name }, strict),
      response: { 200: Project },
    },
    handler: ({ session, params, body }) => projects.rename(session.user.id, params.id, body.name),
  })

  app.delete('/v1/projects/:id', {
    config: signedIn,
    schema: { tags, summary: 'Delete a project', params: IdParams, response: { 204: Type.Null() } },
    handler: async ({ session, params }, reply) => {
      await projects.remove(session.user.id, params.id)
      return reply.code(204).send(null)
    },
  })

  app.post('/v1/projects/:id/claim-link', {
    config: signedIn,
    schema: {
      tags,
      summary: 'A link that opens the project on NemoVideo’s site',
      params: IdParams,
      response: { 200: ClaimLink },
    },
    handler: ({ session, params, platform }) => projects.claimLink(session.user.id, params.id, platform),
  })
}
