import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import Fastify from 'fastify'
import t from 'tap'
import { renderFile } from '../../sandbox/files.ts'
import { handleError } from '../../src/problems.ts'
import { renderRoutes } from '../../src/routes/renders.ts'
import { namedSchemas } from '../../src/routes/schemas.ts'
import type { ClientSession } from '../../src/services/users/sessions.ts'
import { setStage } from '../services/renders/stage.ts'
import { startOrigin } from '../services/upstream/origin.ts'

const size = renderFile.bytes.length

/** The routes over real HTTP; the header `x-user` stands for a credential. */
async function setRoutes(t: Parameters<typeof setStage>[0]) {
  const stage = await setStage(t)
  const app = Fastify({ ajv: { customOptions: { removeAdditional: false, coerceTypes: 'array' } } })
  for (const schema of namedSchemas) app.addSchema(schema)
  app.setErrorHandler(handleError)
  app.decorateRequest('session', null as unknown as ClientSession)
  app.decorateRequest('platform', 'ios')
  app.decorateRequest('requestKey', undefined)
  app.addHook('onRequest', async request => {
    request.session = { user: { id: request.headers['x-user'] } } as unknown as ClientSession
  })
  await app.register(renderRoutes, { renders: stage.renders })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  const { port } = app.server.address() as AddressInfo

  async function call(
    method: string,
    path: string,
    options: { body?: unknown; headers?: object; userId?: string } = {},
  ) {
    const { body, headers, userId = stage.alice.userId } = options
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: {
        'x-user': userId,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const bytes = Buffer.from(await answer.arrayBuffer())
    const json = /json/.test(answer.headers.get('content-type') ?? '') ? JSON.parse(bytes.toString()) : null
    return { status: answer.status, headers: answer.headers, bytes, json }
  }
  return { ...stage, call, port }
}

t.test('export, follow, download', async t => {
  const { call, project, ended, heard, attempts } = await setRoutes(t)
  const created = await call('POST', `/v1/projects/${project.id}/renders`)
  t.match(created, { status: 202, json: { projectId: project.id, state: 'queued', stale: false } })
  const { id } = created.json
  t.equal(created.headers.get('location'), `/v1/renders/${id}`)
  t.match(await call('GET', `/v1/renders/${id}/file`), { status: 409, json: { code: 'not_ready' } })

  await ended(id)
  const shown = await call('GET', `/v1/renders/${id}`)
  t.match(shown, { status: 200, json: { id, state: 'completed', progress: 100 } })
  t.match(await call('GET', `/v1/renders?state=completed&projectId=${project.id}&limit=1`), {
    status: 200,
    json: { items: [{ id }], next: null },
  })
  t.match(heard('render'), [{ platform: 'ios' }])

  const file = await call('GET', shown.json.file.href)
  t.equal(file.status, 200)
  t.equal(file.headers.get('content-type'), 'video/mp4')
  t.equal(file.headers.get('content-length'), String(size))
  t.ok(file.bytes.equals(renderFile.bytes))

  const [attempt] = await attempts(id)
  const secrets = [attempt!.upstream_id, project.sessionId, 'nmv_', '/files/', 'lease', 'draft']
  for (const secret of secrets) {
    t.notOk(shown.bytes.includes(secret), secret)
    t.notOk(created.bytes.includes(secret), secret)
    t.notOk(
      [...file.headers.values()].some(value => value.includes(secret)),
      secret,
    )
  }
})

t.test('the film in parts, and its head', async t => {
  const { call, alice, renders, project, ended, heard } = await setRoutes(t)
  const { id } = await renders.create(alice, project.id)
  await ended(id)
  const path = `/v1/renders/${id}/file`

  const part = await call('GET', path, { headers: { range: 'bytes=10-19' } })
  t.equal(part.status, 206)
  t.equal(part.headers.get('content-range'), `bytes 10-19/${size}`)
  t.ok(part.bytes.equals(renderFile.bytes.subarray(10, 20)))
  const etag = part.headers.get('etag') ?? ''
  t.equal((await call('GET', path, { headers: { range: 'bytes=10-', 'if-range': etag } })).status, 206)
  t.equal((await call('GET', path, { headers: { range: 'bytes=10-', 'if-range': '"old"' } })).status, 200)

  const beyond = await call('GET', path, { headers: { range: `bytes=${size}-` } })
  t.equal(beyond.status, 416)
  t.equal(beyond.headers.get('content-range'), `bytes */${size}`)

  for (const method of ['GET', 'HEAD']) {
    const known = await call(method, path, { headers: { 'if-none-match': etag } })
    t.match(known, { status: 304, bytes: { length: 0 } }, `${method}: the client has it`)
    t.equal(known.headers.get('etag'), etag)
    const changed = await call(method, path, { headers: { 'if-none-match': '"old"' } })
    t.equal(changed.status, 200, `${method}: the client has another`)
  }

  const head = await call('HEAD', path)
  t.equal(head.status, 200)
  t.equal(head.headers.get('content-length'), String(size))
  t.equal(head.headers.get('accept-ranges'), 'bytes')
  t.match(head.headers.get('content-disposition'), /^attachment; filename="Holiday\.mp4"/)
  t.equal(head.bytes.length, 0)
  t.ok(heard('file').length > 0)
})

t.test('a client that goes away ends the transfer behind it', async t => {
  const { alice, renders, project, ended, db, port } = await setRoutes(t)
  const { id } = await renders.create(alice, project.id)
  await ended(id)
  const { promise: aborted, resolve } = Promise.withResolvers<void>()
  const endless = await startOrigin(t, (_, response) => {
    response.writeHead(200, { 'content-type': 'video/mp4' })
    const pour = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536)));
    }
    response.on('drain', pour).on('close', resolve)
    pour()
  })
  await db.execute(sql`update renders set file_url = ${`${endless.url}/film.mp4`} where id = ${id}`)
  const gone = new AbortController()
  const answer = await fetch(`http://127.0.0.1:${port}/v1/renders/${id}/file`, {
    headers: { 'x-user': alice.userId },
    signal: gone.signal,
  })
  await answer.body!.getReader().read()
  gone.abort()
  t.equal(
    await Promise.race([aborted.then(() => 'aborted'), sleep(5_000, 'still fetched', { ref: false })]),
    'aborted',
  )
})

t.test('a client that goes away before the film begins', async t => {
  const { alice, renders, project, ended, db, port } = await setRoutes(t)
  const { id } = await renders.create(alice, project.id)
  await ended(id)
  const { promise: aborted, resolve } = Promise.withResolvers<void>()
  const silent = await startOrigin(t, (_, response) => void response.on('close', resolve))
  await db.execute(sql`update renders set file_url = ${`${silent.url}/film.mp4`} where id = ${id}`)
  const gone = new AbortController()
  const heard = once(silent.server, 'request')
  const answer = fetch(`http://127.0.0.1:${port}/v1/renders/${id}/file`, {
    headers: { 'x-user': alice.userId },
    signal: gone.signal,
  })
  answer.catch(() => {})
  await heard
  gone.abort()
  t.equal(
    await Promise.race([aborted.then(() => 'aborted'), sleep(5_000, 'still fetched', { ref: false })]),
    'aborted',
  )
})

t.test('cancel and retry', async t => {
  const { call, alice, renders, project, sandbox, ended } = await setRoutes(t)
  sandbox.faults.add({ on: 'render', answer: 'fail', times: 2 })
  const { id } = await renders.create(alice, project.id)
  t.match(await call('POST', `/v1/renders/${id}/retry`), { status: 409, json: { code: 'not_failed' } })
  await ended(id)
  t.match(await call('GET', `/v1/renders/${id}`), {
    json: {
      state: 'failed',
      problem: { code: 'upstream_unavailable', userState: { action: { kind: 'retry' } } },
    },
  })
  t.match(await call('POST', `/v1/renders/${id}/cancel`), { status: 200, json: { state: 'failed' } })
  t.match(await call('POST', `/v1/renders/${id}/retry`), { status: 202, json: { id, state: 'queued' } })
  t.match(await call('POST', `/v1/renders/${id}/cancel`), { status: 200, json: { id, state: 'cancelled' } })
})

t.test('what is refused', async t => {
  const { call, alice, renders, project, createUser } = await setRoutes(t)
  const { id } = await renders.create(alice, project.id)
  const bob = (await createUser()).userId
  for (const [method, path] of [
    ['GET', ''],
    ['GET', '/file'],
    ['POST', '/cancel'],
    ['POST', '/retry'],
  ] as const) {
    const foreign = await call(method, `/v1/renders/${id}${path}`, { userId: bob })
    const missing = await call(method, `/v1/renders/019ab000-0000-7000-8000-000000000000${path}`, {
      userId: bob,
    })
    t.match(foreign, { status: 404, json: { code: 'not_found' } })
    t.same({ ...foreign.json, requestId: '' }, { ...missing.json, requestId: '' })
  }
  const create = `/v1/projects/${project.id}/renders`
  t.equal((await call('POST', create, { body: { state: 'completed' } })).status, 400)
  t.equal((await call('POST', create, { body: { format: 'exe' } })).status, 400)
  t.equal((await call('POST', create, { body: { quality: 'a\r\nb' } })).status, 400)
  t.equal((await call('GET', '/v1/renders?state=other')).status, 400)
  t.equal((await call('GET', '/v1/renders?limit=201')).status, 400)
  t.match(await call('POST', create, { body: { format: 'mp4', quality: 'high' } }), { status: 202 })
})
