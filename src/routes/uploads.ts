import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../problems.ts'
import type { IncomingFile } from '../services/uploads/multipart-body.ts'
import type { Uploads } from '../services/uploads/uploads.ts'
import { lingering } from './lingering.ts'
import { Id, IdPaging, IdParams, listOf, named, oneOfWords, StoredProblem, strict } from './schemas.ts'

export const Upload = named(
  'Upload',
  Type.Object({
    id: Id,
    projectId: Id,
    state: oneOfWords('receiving', 'forwarding', 'ready', 'failed'),
    filename: Type.String({ description: 'A label, never a path' }),
    mediaType: Type.Union([Type.String(), Type.Null()]),
    bytes: Type.Union([Type.Integer(), Type.Null()]),
    bytesForwarded: Type.Integer(),
    media: Type.Optional(
      Type.Object({
        kind: oneOfWords('video', 'image', 'audio', 'unknown'),
        durationMs: Type.Optional(Type.Number()),
        width: Type.Optional(Type.Number()),
        height: Type.Optional(Type.Number()),
      }),
    ),
    problem: Type.Optional(StoredProblem),
  }),
)

const MAX_FILES = 20
const PART_NAME = 'A part of this form is a file with the name "file".'
const signedIn = { policy: 'signed-in' } as const
const tags = ['Uploads']

export const uploadRoutes: FastifyPluginAsyncTypebox<{ uploads: Uploads }> = async (app, { uploads }) => {
  // Without attachFieldsToBody and without temporary files: what arrives is passed on. The service counts bytes.
  await app.register(multipart, {
    throwFileSizeLimit: false,
    limits: {
      files: MAX_FILES,
      fields: 1,
      parts: MAX_FILES + 1,
      fileSize: Number.POSITIVE_INFINITY,
      fieldSize: 1_000,
      headerPairs: 20,
    },
  })

  app.post('/v1/projects/:id/uploads', {
    config: { ...signedIn, idempotent: true, budget: 'uploads' },
    // One route takes two content types, and the schema describes only the JSON one.
    attachValidation: true,
    preValidation: async request => {
      // A stream cannot be compared with an earlier one, so a multipart request has no key.
      if (request.isMultipart()) delete request.headers['idempotency-key']
    },
    onSend: lingering,
    schema: {
      tags,
      summary: 'Upload files, or name addresses of files',
      description:
        'multipart/form-data with one or more parts named `file`, which are streamed through, or JSON. ' +
        'One refused file: its problem. Several: 201 if any was taken, the others are `failed`.',
      params: IdParams,
      body: Type.Object(
        { urls: Type.Array(Type.String({ maxLength: 8_192 }), { minItems: 1, maxItems: MAX_FILES }) },
        strict,
      ),
      response: { 201: Type.Object({ items: Type.Array(Upload) }) },
    },
    handler: async (request, reply) => {
      const isMultipart = request.isMultipart()
      const invalid = request.validationError
      if (invalid && !(isMultipart && invalid.validationContext === 'body')) throw invalid
      const caller = { userId: request.session.user.id, platform: request.platform }
      const { id } = request.params
      const items = isMultipart
        ? await uploads.receive(caller, id, filesOf(request))
        : await uploads.byUrl(caller, id, request.body.urls)
      if (items.length === 1) reply.header('location', `/v1/uploads/${items[0]!.id}`)
      return reply.code(201).send({ items })
    },
  })

  app.get('/v1/projects/:id/uploads', {
    config: signedIn,
    schema: {
      tags,
      summary: 'The project’s uploads, newest first',
      params: IdParams,
      querystring: Type.Object(IdPaging, strict),
      response: { 200: listOf(Upload) },
    },
    handler: ({ session, params, query }) =>
      uploads.list(session.user.id, params.id, query.after, query.limit ?? 50),
  })

  app.get('/v1/uploads/:id', {
    config: signedIn,
    schema: { tags, summary: 'An upload', params: IdParams, response: { 200: Upload } },
    handler: ({ session, params }) => uploads.get(session.user.id, params.id),
  })
}

async function* filesOf(request: FastifyRequest): AsyncGenerator<IncomingFile> {
  // The parser would wait for ever for a request that has closed already.
  if (request.raw.destroyed) throw new ProblemError('upload_interrupted')
  try {
    for await (const part of request.parts()) {
      if (part.type !== 'file' || part.fieldname !== 'file')
        throw new ProblemError('invalid_request', PART_NAME)
      yield { filename: part.filename ?? '', mediaType: part.mimetype, body: part.file }
    }
  } catch (error) {
    if (error instanceof ProblemError || (error as { statusCode?: number }).statusCode) throw error
    throw new ProblemError('invalid_request', 'The multipart body is malformed.', { cause: error })
  }
}
