import Fastify from 'fastify'
import t from 'tap'
import { docRoutes } from '../../src/routes/docs.ts'

t.test('the page that shows the API, and its script, come from here', async t => {
  const app = Fastify()
  app.decorate('swagger', (() => ({ openapi: '3.1.0' })) as never)
  await app.register(docRoutes)
  t.teardown(() => app.close())
  t.match(await app.inject('/docs'), { statusCode: 301, headers: { location: '/docs/' } })
  const page = await app.inject('/docs/')
  t.match(page.headers, { 'content-type': /^text\/html/, 'content-security-policy': String })
  const [, script] = /<script src="([^"]+\.js)"/.exec(page.body) ?? []
  const answer = await app.inject(new URL(script!, 'http://gateway/docs/').pathname)
  t.match(answer, { statusCode: 200, headers: { 'content-type': /^application\/javascript/ } })
  t.ok(answer.rawPayload.length > 1_000_000)
  t.match((await app.inject('/openapi.json')).json(), { openapi: '3.1.0' })
})
