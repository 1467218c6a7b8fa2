import { createHash, randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import t from 'tap'
import { addAuthentication } from '../../src/routes/authenticate.ts'
import { ClientFrame } from '../../src/routes/live-socket.ts'
import type { Sessions } from '../../src/services/users/sessions.ts'
import { type Client, type Json, signIn } from '../helpers/client.ts'
import { openLive } from '../helpers/frames.ts'
import { until } from '../helpers/gateway.ts'
import { allOperations, call, type Operation, withoutId } from './operations.ts'
import { PAGE, startProduction } from './production.ts'

const { url } = await startProduction(t)
const operations = await allOperations()
const [alice, bob] = await Promise.all([signIn(url), signIn(url)])
const bearer = (client: Client) => ({ authorization: `Bearer ${client.token}` })

/** One of each thing that has an id, all of them Alice's. */
const projects = await alice.projectWithClip()
const [uploads, renders, runs] = await Promise.all([
  alice.get(`/v1/projects/${projects}/uploads`).then(({ items }) => items[0].id),
  alice.post(`/v1/projects/${projects}/renders`).then(({ id }) => id),
  alice
    .post(`/v1/projects/${projects}/messages`, { text: 'hello', intent: 'chat' })
    .then(({ run }) => run.id),
])
const things: Record<string, string> = { projects, uploads, renders, runs }
await until(async () => (await alice.get(`/v1/runs/${runs}`)).state === 'completed')
await until(async () => (await alice.get(`/v1/renders/${renders}`)).state === 'completed')

/** The id that belongs into the path. */
const idFor = ({ path }: Operation) => things[/(\w+)\/\{/.exec(path)?.[1] ?? ''] ?? projects
const snapshot = async () =>
  JSON.stringify(
    await Promise.all(
      [
        `projects/${projects}`,
        `projects/${projects}/uploads`,
        `projects/${projects}/runs`,
        `uploads/${uploads}`,
        `runs/${runs}`,
        `renders/${renders}`,
        'renders',
        'me',
      ].map(path => alice.get(`/v1/${path}`)),
    ),
  )
const before = await snapshot()

t.test('a route that does not say who may call it stops the start', async t => {
  const app = Fastify()
  addAuthentication(app, {} as Sessions, { allowedOrigins: [], opsToken: null })
  app.get('/v1/forgotten', async () => 'secret')
  await t.rejects(Promise.resolve(app.ready()), { message: 'GET /v1/forgotten declares no policy' })
})

t.test('there is something to test', async t => {
  t.ok(operations.length >= 24)
  t.ok(operations.filter(({ policy }) => policy === 'signed-in').length >= 20)
  t.ok(operations.filter(({ ids }) => ids.length > 0).length >= 16)
})

t.test('nobody comes in without a credential', async t => {
  for (const operation of operations.filter(({ policy }) => policy !== 'open' && policy !== 'optional')) {
    const answer = await call(url, operation, { id: idFor(operation) })
    t.equal(answer.status, 401, operation.name)
    t.ok(operation.announces(answer.status, answer.type, answer.text), `${operation.name}: as announced`)
  }
})

t.test('what is somebody else’s is as absent as what is not', async t => {
  const malformed = [
    'x',
    '%00',
    '..',
    '%2e%2e',
    '..%2f..',
    '%5c',
    '%23',
    projects.toUpperCase(),
    `${projects}%0d%0a`,
  ]
  for (const operation of operations.filter(({ ids }) => ids.length > 0)) {
    const ask = (id: string) => call(url, operation, { id, headers: bearer(bob) })
    const [foreign, missing] = await Promise.all([ask(idFor(operation)), ask(randomUUID())])
    t.same(withoutId(foreign), withoutId(missing), operation.name)
    t.ok(operation.announces(foreign.status, foreign.type, foreign.text), `${operation.name}: as announced`)
    if (operation.policy === 'signed-in') t.equal(foreign.status, 404, operation.name)
    for (const id of malformed) {
      const { status } = await ask(id)
      t.ok(status >= 400 && status < 500, `${operation.name} ${id}: ${status}`)
    }
  }
  for (const operation of operations)
    for (const name of Object.keys(operation.query).filter(name => /id$/i.test(name) || name === 'after')) {
      const ask = (id: string) =>
        call(url, operation, { id: projects, query: `?${name}=${id}`, headers: bearer(bob) })
      const [foreign, missing] = await Promise.all([ask(projects), ask(randomUUID())])
      t.same(withoutId(foreign), withoutId(missing), `${operation.name} ?${name}`)
    }
  for (const operation of operations)
    for (const name of Object.keys(operation.body?.properties ?? {}).filter(name => /id$/i.test(name))) {
      const ask = (id: string) =>
        call(url, operation, { id: projects, body: { [name]: id }, headers: bearer(bob) })
      const [foreign, missing] = await Promise.all([ask(projects), ask(randomUUID())])
      t.same(withoutId(foreign), withoutId(missing), `${operation.name} ${name}`)
    }
  t.equal(await snapshot(), before, 'and nothing has changed')
})

t.test('the same for every frame of a socket', async t => {
  const answersTo = async (frame: object) => {
    const live = openLive(t, url, { headers: bearer(bob) })
    await live.send(frame, { type: 'ping' })
    await Promise.race([live.next(({ type }) => type === 'pong'), live.closed])
    live.socket.close()
    return JSON.stringify(live.frames.slice(1)).replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'id')
  }
  for (const { properties } of ClientFrame.anyOf as unknown as { properties: Record<string, Json> }[])
    for (const name of Object.keys(properties).filter(name => /id$/i.test(name))) {
      const frame = (id: string) => ({ type: properties.type!.const, [name]: id })
      const [foreign, missing] = await Promise.all([
        answersTo(frame(projects)),
        answersTo(frame(randomUUID())),
      ])
      t.equal(foreign, missing, `${properties.type!.const} ${name}`)
      t.notMatch(foreign, /"seq"|"subscribed"/)
    }
})

t.test('another site cannot make a browser change anything', async t => {
  const signedIn = await fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"delivery":"cookie"}',
  })
  const cookie = signedIn.headers.get('set-cookie')!.split(';')[0]!
  const asPage = { cookie, 'x-csrf': '1', origin: PAGE }
  const forged: Record<string, string>[] = [
    { cookie },
    { cookie, origin: PAGE },
    { cookie, 'content-type': 'text/plain' },
    { cookie, 'content-type': 'application/x-www-form-urlencoded' },
    { cookie, 'x-csrf': '1', origin: 'https://evil.example' },
    { cookie, 'x-csrf': '1', origin: 'null' },
    { cookie, 'x-csrf': '1', origin: `${PAGE}.evil.example` },
    { cookie, 'x-csrf': '1', origin: PAGE.toUpperCase() },
    { cookie, 'x-csrf': '1', origin: `${PAGE}:8443` },
    { cookie, 'x-csrf': '1', 'sec-fetch-site': 'cross-site' },
    { cookie, 'x-http-method-override': 'GET' },
  ]
  const changing = operations.filter(
    ({ changes, policy }) => changes && (policy === 'signed-in' || policy === 'optional'),
  )
  t.ok(changing.length >= 12)
  for (const operation of changing)
    for (const headers of forged) {
      const answer = await call(url, operation, { id: randomUUID(), headers })
      t.match([answer.status, answer.text], [403, /csrf_required/], operation.name)
    }
  const projectsOf = await fetch(`${url}/v1/projects`, { headers: { cookie } })
  t.same(await projectsOf.json(), { items: [], next: null }, 'signed in as before, and nothing was made')
  const created = await call(url, operations.find(({ name }) => name === 'POST /v1/projects')!, {
    headers: asPage,
  })
  t.equal(created.status, 201, 'the page itself can')
  const evil = await fetch(`${url}/v1/projects`, {
    method: 'OPTIONS',
    headers: { origin: 'https://evil.example', 'access-control-request-method': 'POST' },
  })
  t.equal(evil.headers.get('access-control-allow-origin'), null)
})

t.test('a method that an address does not have', async t => {
  const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
  for (const path of new Set(operations.map(({ path }) => path))) {
    const known = new Set(operations.filter(one => one.path === path).map(({ method }) => method))
    const method = methods.find(method => !known.has(method))!
    const answer = await call(url, { method, path, body: null }, { id: randomUUID(), headers: bearer(bob) })
    t.equal(answer.status, 405, `${method} ${path}`)
    t.match(answer.text, /method_not_allowed/)
    for (const name of known) t.match(answer.headers.get('allow'), new RegExp(`\\b${name}\\b`))
  }
})

t.test('every answer tells a browser what it must not be used for', async t => {
  const addresses = ['/healthz', '/v1/me', '/nothing', '/docs/', '/openapi.json', '/%']
  for (const path of addresses) {
    const { headers, text } = await call(url, { method: 'GET', path, body: null })
    t.equal(headers.get('x-content-type-options'), 'nosniff', path)
    t.match(headers.get('strict-transport-security'), /max-age=\d{8}/)
    t.match(headers.get('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'/)
    t.equal(headers.get('referrer-policy'), 'no-referrer')
    t.match(headers.get('cache-control'), /no-store|no-cache/)
    for (const name of ['server', 'x-powered-by']) t.equal(headers.get(name), null)
    t.ok(text)
  }
})

t.test('the page of the API reference runs its own script, and none that somebody put into it', async t => {
  const { headers, text } = await call(url, { method: 'GET', path: '/docs/', body: null })
  const [, script = ''] = /<script[^>]*>([^<]+createApiReference[\s\S]*?)<\/script>/.exec(text) ?? []
  const hash = createHash('sha256').update(script).digest('base64')
  const policy = headers.get('content-security-policy')!
  t.equal(/script-src ([^;]*)/.exec(policy)?.[1], `'self' 'sha256-${hash}'`)
  t.match(policy, /base-uri 'none'/)
})
