import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../problems.ts'
import type { Resumable, ResumableRequest } from '../services/uploads/resumable.ts'
import { TUS_VERSION } from '../services/uploads/tus.ts'
import { lingering } from './lingering.ts'
import { IdParams, PathId, strict } from './schemas.ts'

const tags = ['Uploads']
const UploadParams = Type.Object({ id: PathId, uploadId: PathId }, strict)
const EXTENSIONS = 'creation,creation-with-upload,expiration,termination'

/** tus 1.0 in the signed-in scope. The bodies of this scope are never parsed: they go to the spool as they come. */
export const resumableRoutes: FastifyPluginAsyncTypebox<{ resumable: Resumable }> = async (
  app,
  { resumable },
) => {
  app.addContentTypeParser('application/offset+octet-stream', (_request, _body, done) => done(null))
  app.addHook('onSend', lingering)
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('tus-resumable', TUS_VERSION)
  })

  async function answer(request: FastifyRequest, reply: FastifyReply) {
    const { id: projectId, uploadId } = request.params as { id: string; uploadId?: string }
    const { method, headers, raw } = request
    const caller = { userId: request.session.user.id, platform: request.platform }
    if (headers['tus-resumable'] !== TUS_VERSION) {
      reply.header('tus-version', TUS_VERSION)
      throw new ProblemError('tus_version', `Send "Tus-Resumable: ${TUS_VERSION}".`)
    }
    const told = await resumable.handle(caller, {
      method: method as ResumableRequest['method'],
      projectId,
      ...(uploadId !== undefined && { uploadId }),
      headers,
      body: raw,
    })
    // What was not read of the body must not be taken for the next request.
    if (!raw.complete) reply.header('connection', 'close')
    return reply.code(told.status).headers(told.headers).send()
  }

  app.post('/v1/projects/:id/uploads/resumable', {
    config: { policy: 'signed-in' },
    schema: {
      tags,
      summary: 'Begin a resumable upload (tus 1.0)',
      description:
        'Headers `Tus-Resumable: 1.0.0`, `Upload-Length`, and `Upload-Metadata` with `filename` and `filetype`. ' +
        'The address in `Location` ends with the upload’s id. Its bytes may come along, or by PATCH.',
      params: IdParams,
      response: { 201: Type.Null({ description: 'Begun; `Location` is the address' }) },
    },
    handler: answer,
  })

  for (const [method, status, summary] of [
    ['HEAD', 200, 'How far a resumable upload has come'],
    ['PATCH', 204, 'Go on with a resumable upload'],
    ['DELETE', 204, 'End a resumable upload that is not whole'],
  ] as const)
    app.route({
      method,
      url: '/v1/projects/:id/uploads/resumable/:uploadId',
      config: { policy: 'signed-in' },
      schema: { tags, summary, params: UploadParams, response: { [status]: Type.Null() } },
      handler: answer,
    })
}

/** A client may ask what is spoken here. Before CORS, which takes every OPTIONS for a preflight. */
export function addTusDiscovery(app: FastifyInstance, services: { resumable: Resumable }) {
  app.addHook('onRequest', async ({ method, url, headers }, reply) => {
    if (method !== 'OPTIONS' || headers['access-control-request-method'] !== undefined) return
    if (!/\/uploads\/resumable\/?$/.test(url)) return
    return reply
      .code(204)
      .headers({
        'tus-resumable': TUS_VERSION,
        'tus-version': TUS_VERSION,
        'tus-extension': EXTENSIONS,
        'tus-max-size': String(services.resumable.maxBytes),
      })
      .send()
  })
}
