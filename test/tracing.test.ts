import t from 'tap'
import { renderFile } from '../sandbox/files.ts'
import { createTracing } from '../src/tracing.ts'
import { testApp } from './helpers/app.ts'
import { signIn } from './helpers/client.ts'
import { type Span, startCollector } from './helpers/collector.ts'
import { until } from './helpers/gateway.ts'

const attribute = (span: Span, key: string) =>
  span.attributes.find(attribute => attribute.key === key)?.value.stringValue

/** The spans of a client's trace by name, and the names of what a span stands in, the nearest first. */
function traceOf(collector: Awaited<ReturnType<typeof startCollector>>, traceId: string) {
  const spans = () => collector.spans().filter(span => span.traceId === traceId)
  const ancestors = (span: Span): string[] => {
    const parent = spans().find(({ spanId }) => spanId === span.parentSpanId)
    return parent ? [parent.name, ...ancestors(parent)] : []
  }
  const trace = (name: string) => spans().filter(span => span.name === name)
  return { trace: Object.assign(trace, { ancestors }), traceparent: `00-${traceId}-b7ad6b7169203331-01` }
}

t.test('a request, its run, the calls it makes and what it tells the log are one trace', async t => {
  const collector = await startCollector(t)
  const { url, sandbox } = await testApp(t, { env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } })
  const alice = await signIn(url)
  const projectId = await alice.projectWithClip()
  const { trace, traceparent } = traceOf(collector, '0af7651916cd43dd8448eb211c80319c')
  const text = 'Add a title that says Sesame'
  const path = `/v1/projects/${projectId}/messages`
  const { run } = await alice.post(path, { text }, { traceparent })
  await until(async () => (await alice.get(`/v1/runs/${run.id}`)).state === 'completed')

  await until(async () => trace('run').length > 0)
  const [request, ...more] = trace('POST /v1/projects/:id/messages')
  const [job, ...others] = trace('run')
  t.same([more, others], [[], []], 'one request and one run')
  t.equal(request!.parentSpanId, 'b7ad6b7169203331', 'the client’s span is the parent')
  t.equal(attribute(request!, 'http.route'), '/v1/projects/:id/messages')
  t.equal(attribute(job!, 'reelgate.run.id'), run.id)

  t.match(trace.ancestors(job!), [/log append|POST/], 'the run goes on where its message was accepted')
  t.ok(trace.ancestors(job!).includes(request!.name))
  const [call] = trace('upstream run')
  t.ok(call && trace.ancestors(call).includes('run'), 'the call upstream belongs to the run')
  t.equal(attribute(call!, 'reelgate.outcome'), 'ok')
  const appends = trace('log append').filter(span => trace.ancestors(span).includes('run'))
  t.ok(appends.length >= 3, 'and so does what the log is told')

  const [resource] = collector.resources()
  t.match(resource.resource.attributes, [{ key: 'service.name', value: { stringValue: 'reelgate' } }])
  for (const secret of [alice.token, 'nmv_', text, 'session_', sandbox.url])
    t.notOk(collector.text().includes(secret), `${secret} is in no trace`)
})

t.test('a render goes on in the trace of its request, to the film and the copy of it', async t => {
  const collector = await startCollector(t)
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, KEEP_RENDERS: '1' }
  const { url } = await testApp(t, { env })
  const alice = await signIn(url)
  const projectId = await alice.projectWithClip()
  const { trace, traceparent } = traceOf(collector, '4bf92f3577b34da6a3ce929d0e0e4736')
  const { id } = await alice.post(`/v1/projects/${projectId}/renders`, {}, { traceparent })
  await until(async () => (await alice.get(`/v1/renders/${id}`)).state === 'completed')
  await until(async () => trace('copy').length > 0)

  const request = 'POST /v1/projects/:id/renders'
  t.equal(trace(request).length, 1)
  const steps = trace('render')
  t.ok(steps.length >= 2, 'at least one that submits and one that finds the film')
  for (const step of steps) {
    t.equal(attribute(step, 'reelgate.render.id'), id)
    t.ok(trace.ancestors(step).includes(request))
  }
  for (const name of ['upstream submitRender', 'upstream render', 'log append'])
    t.ok(
      trace(name).some(span => trace.ancestors(span)[0] === 'render'),
      `${name} belongs to a step`,
    )
  const [copy] = trace('copy')
  t.equal(attribute(copy!, 'reelgate.render.id'), id)
  t.ok(trace.ancestors(copy!).includes(request), 'over two borders: request, worker, job')
  t.ok(trace('upstream openFile').some(span => trace.ancestors(span)[0] === 'copy'))
})

t.test('a resumable upload is sent on in the trace of the request that brought its last byte', async t => {
  const collector = await startCollector(t)
  const { url } = await testApp(t, { env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } })
  const alice = await signIn(url)
  const { id: projectId } = await alice.post('/v1/projects', {})
  const path = `/v1/projects/${projectId}/uploads/resumable`
  const { trace, traceparent } = traceOf(collector, '5bf92f3577b34da6a3ce929d0e0e4737')
  const send = (method: string, to: string, headers: Record<string, string>, body?: Buffer) =>
    fetch(`${url}${to}`, {
      method,
      headers: { authorization: `Bearer ${alice.token}`, 'tus-resumable': '1.0.0', ...headers },
      ...(body && { body: new Uint8Array(body) }),
    })
  const created = await send('POST', path, {
    'upload-length': String(renderFile.bytes.length),
    'upload-metadata': `filename ${Buffer.from('film.mp4').toString('base64')}`,
  })
  t.equal(created.status, 201)
  const uploadPath = created.headers.get('location')!
  const type = { 'content-type': 'application/offset+octet-stream' }
  const half = renderFile.bytes.length >> 1
  await send('PATCH', uploadPath, { ...type, 'upload-offset': '0' }, renderFile.bytes.subarray(0, half))
  const rest = renderFile.bytes.subarray(half)
  await send('PATCH', uploadPath, { ...type, 'upload-offset': String(half), traceparent }, rest)
  await until(async () => trace('forward').length > 0)

  const [forward] = trace('forward')
  t.equal(attribute(forward!, 'reelgate.upload.id'), uploadPath.split('/').at(-1))
  const request = 'PATCH /v1/projects/:id/uploads/resumable/:uploadId'
  t.same(trace(request).length, 1)
  t.ok(trace.ancestors(forward!).includes(request))
  for (const name of ['upstream uploadFile', 'log append'])
    t.ok(
      trace(name).some(span => trace.ancestors(span).includes('forward')),
      `${name} belongs to it`,
    )
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
