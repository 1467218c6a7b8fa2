import scalar from '@scalar/fastify-api-reference'
import type { FastifyPluginAsync } from 'fastify'
import { addPageHeaders } from './headers.ts'

/** The OpenAPI document and a page that shows it. Nothing on the page comes from another host. */
export const docRoutes: FastifyPluginAsync = async app => {
  const open = { policy: 'open' } as const
  addPageHeaders(app)

  app.get('/openapi.json', { config: open, schema: { hide: true } }, async (_, reply) =>
    reply.type('application/json').send(JSON.stringify(app.swagger())),
  )

  app.addHook('onRoute', route => {
    route.config = { ...route.config, ...open }
    route.schema = { ...route.schema, hide: true }
  })
  await app.register(scalar, {
    routePrefix: '/docs',
    configuration: {
      url: '/openapi.json',
      title: 'reelgate API',
      telemetry: false,
      withDefaultFonts: false,
      proxyUrl: '',
      agent: { disabled: true },
      mcp: { disabled: true },
    },
  })
}
