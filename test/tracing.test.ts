import t from 'tap'
import { createTracing } from '../src/tracing.ts'
import { testApp } from './helpers/app.ts'
import { signIn } from './helpers/client.ts'
import { type Span, startCollector } from './helpers/collector.ts'
import { until } from './helpers/gateway.ts'

const attribute = (span: Span, key: string) =>
  span.attributes.find(attribute => attribute.key === key)?.value.stringValue

t.test('a request, its run, the calls it makes and what it tells the log are one trace', async t => {
  const collector = await startCollector(t)
  const { url, sandbox } = await testApp(t, { env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } })
  const alice = await signIn(url)
  const projectId = await alice.projectWithClip()
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const text = 'Add a title that says Sesame'
  const path = `/v1/projects/${projectId}/messages`
  const traceparent = `00-${traceId}-b7ad6b7169203331-01`
  const { run } = await alice.post(path, { text }, { traceparent })
  await until(async () => (await alice.get(`/v1/runs/${run.id}`)).state === 'completed')

  const ofTrace = () => collector.spans().filter(span => span.traceId === traceId)
  const named = (name: string) => ofTrace().filter(span => span.name === name)
  await until(async () => named('run').length > 0)
  const [request, ...more] = named('POST /v1/projects/:id/messages')
  const [job, ...others] = named('run')
  t.same([more, others], [[], []], 'one request and one run')
  t.equal(request!.parentSpanId, 'b7ad6b7169203331', 'the client’s span is the parent')
  t.equal(attribute(request!, 'http.route'), '/v1/projects/:id/messages')
  t.equal(attribute(job!, 'reelgate.run.id'), run.id)

  const byId = new Map(ofTrace().map(span => [span.spanId, span]))
  const ancestors = (span: Span): string[] => {
    const parent = byId.get(span.parentSpanId ?? '')
    return parent ? [parent.name, ...ancestors(parent)] : []
  }
  t.match(ancestors(job!), [/log append|POST/], 'the run goes on where its message was accepted')
  t.ok(ancestors(job!).includes(request!.name))
  const [call] = named('upstream run')
  t.ok(call && ancestors(call).includes('run'), 'the call upstream belongs to the run')
  t.equal(attribute(call!, 'reelgate.outcome'), 'ok')
  const appends = named('log append').filter(span => ancestors(span).includes('run'))
  t.ok(appends.length >= 3, 'and so does what the log is told')

  const [resource] = collector.resources()
  t.match(resource.resource.attributes, [{ key: 'service.name', value: { stringValue: 'reelgate' } }])
  for (const secret of [alice.token, 'nmv_', text, 'session_', sandbox.url])
    t.notOk(collector.text().includes(secret), `${secret} is in no trace`)
})

t.test('what nobody asked for makes no trace', async t => {
  const collector = await startCollector(t)
  const tracing = await createTracing(collector.url)
  t.equal(await tracing.span('upstream render', {}, async () => tracing.traceparent()), undefined)
  await tracing.close()
  t.same(collector.spans(), [])
})

t.test('tokens are taken out of what spans say, and failures are marked', async t => {
  const collector = await startCollector(t)
  const tracing = await createTracing(collector.url)
  const token = `nmv_usr_${'a'.repeat(32)}`
  const outer = tracing.begin('outer', { traceparent: `00-${token}` })
  const failing = () =>
    tracing.span('inner', { attributes: { note: `Bearer ${token}` } }, async set => {
      set({ more: token })
      throw new Error(`refused for ${token}`)
    })
  await t.rejects(outer.enter(failing), { message: `refused for ${token}` }, 'the error itself is as it was')
  outer.end({}, true)
  await tracing.close()
  const [inner] = collector.spans().filter(({ name }) => name === 'inner')
  t.equal(inner!.status!.code, 2)
  t.match(inner!.status!.message, /refused for/)
  t.notOk(collector.text().includes('aaaaaaaa'))
})
