import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'

const Health = Type.Object({ status: Type.String() })

/** `healthz`: the process lives. `readyz`: it may be sent requests; not while it drains or the database is gone. */
export const healthRoutes: FastifyPluginAsyncTypebox<{ isReady(): Promise<boolean> }> = async (
  app,
  { isReady },
) => {
  const open = { policy: 'open', budget: 'none' } as const

  app.get('/healthz', {
    config: open,
    schema: { tags: ['Health'], summary: 'The process lives', response: { 200: Health } },
    handler: async () => ({ status: 'ok' }),
  })

  app.get('/readyz', {
    config: open,
    schema: { tags: ['Health'], summary: 'Requests may be sent', response: { 200: Health, 503: Health } },
    handler: async (_, reply) =>
      (await isReady()) ? { status: 'ready' } : reply.code(503).send({ status: 'not ready' }),
  })
}
