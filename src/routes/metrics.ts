import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'

/** What the route asks of the metrics. */
export interface MetricsPage {
  page(): Promise<{ contentType: string; text: string }>
}

/** `GET /metrics`, for Prometheus. There only with OPS_TOKEN. */
export const metricsRoutes: FastifyPluginAsyncTypebox<{ metrics: MetricsPage }> = async (
  app,
  { metrics },
) => {
  app.get('/metrics', {
    config: { policy: 'ops' },
    schema: {
      tags: ['Operators'],
      summary: 'Metrics of this instance, for Prometheus',
      response: {
        200: {
          description: 'Prometheus’s text format',
          content: { 'text/plain': { schema: Type.String() } },
        },
      },
    },
    handler: async (_, reply) => {
      const { contentType, text } = await metrics.page()
      return reply.type(contentType).serializer(String).send(text)
    },
  })
}
