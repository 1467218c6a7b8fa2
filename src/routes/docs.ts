import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import { addPageHeaders } from './headers.ts'

/** The OpenAPI document and a page that shows it. Nothing on the page comes from another host. */
export const docRoutes: FastifyPluginAsync = async app => {
  const open = { policy: 'open' } as const
  addPageHeaders(app)

  app.get('/openapi.json', { config: open, schema: { hide: true } }, async (_, reply) =>
    reply.type('application/json').send(JSON.stringify(app.swagger())),
  )

  let page: Promise<FastifyInstance> | undefined
  for (const path of PAGE_PATHS)
    app.get(path, { config: open, schema: { hide: true } }, async ({ url }, reply) => {
      page ??= openPage()
      const { statusCode, headers, payload } = await (await page).inject(url)
      const { location, 'content-type': type } = headers
      return reply
        .code(statusCode)
        .headers({ ...(location && { location }), ...(type && { 'content-type': type }) })
        .send(payload)
    })
}

const PAGE_PATHS = ['/docs', '/docs/', '/docs/js/scalar.js']

/** The page's script takes 20 MiB of memory, so it is loaded for the first who reads the page. */
async function openPage(): Promise<FastifyInstance> {
  const page = Fastify()
  const { default: scalar } = await import('@scalar/fastify-api-reference')
  await page.register(scalar, {
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
  return page
}
