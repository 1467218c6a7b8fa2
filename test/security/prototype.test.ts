/** Keys that mean something to JavaScript, in all that clients and the backend say. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { type Json, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { startGateway, until } from '../helpers/gateway.ts'
import { startSandbox } from '../sandbox/helpers.ts'
import { allOperations, call, smallest } from './operations.ts'

const POISON = '"__proto__":{"polluted":"yes"},"constructor":{"prototype":{"polluted":"yes"}}'

/** A backend each object of whose answers and frames begins with the keys. */
async function poisoned(t: Test, origin: string) {
  let poisonedAnswers = 0
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray())
    const headers = new Headers(request.headers as Record<string, string>)
    for (const name of ['host', 'connection', 'content-length', 'transfer-encoding']) headers.delete(name)
    const answer = await fetch(origin + request.url, {
      method: request.method!,
      headers,
      ...(body.length > 0 ? { body } : {}),
    })
    const type = answer.headers.get('content-type') ?? ''
    response.writeHead(answer.status, { 'content-type': type })
    if (!/json|event-stream/.test(type)) return response.end(Buffer.from(await answer.arrayBuffer()))
    poisonedAnswers++
    response.end((await answer.text()).replaceAll(/\{(?=\s*")/g, `{${POISON},`))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, count: () => poisonedAnswers }
}

/** Prints, when it is asked, what every object of the process inherits. */
const LOOK = `--import data:text/javascript,${encodeURIComponent(`
  const before = Reflect.ownKeys(Object.prototype).length
  process.on('SIGWINCH', () => console.log('INHERITED ' + JSON.stringify({
    more: Reflect.ownKeys(Object.prototype).length - before, polluted: {}.polluted ?? null,
    setter: '__proto__' in {}, array: [].polluted ?? null, text: Function.prototype.polluted ?? null })))`)}`

const sandbox = await startSandbox(t)
const backend = await poisoned(t, sandbox.url)
const gateway = await startGateway(t, {
  NODE_ENV: 'production',
  DATABASE_URL: await testDatabaseUrl(t),
  NEMO_API_URL: backend.url,
  NODE_OPTIONS: LOOK,
})
const { url } = gateway
const client = await signIn(url)

async function inherited(): Promise<Json> {
  const from = gateway.output().length
  gateway.kill('SIGWINCH')
  return until(async () => {
    const line = /INHERITED (.*)/.exec(gateway.output().slice(from))?.[1]
    return line && JSON.parse(line)
  })
}
// The way to the prototype is gone, and nothing else has come or gone.
const CLEAN = { more: -1, polluted: null, setter: false, array: null, text: null }

t.test('from the backend, in each of its answers and frames', async t => {
  const id = await client.projectWithClip()
  const message = { text: 'Add a title that says Sesame', intent: 'chat' }
  const { run } = await client.post(`/v1/projects/${id}/messages`, message)
  const ended = await until(async () => {
    const found = await client.get(`/v1/runs/${run.id}`)
    return ['completed', 'failed'].includes(found.state) && found
  })
  t.match(ended, { state: 'completed', outcome: 'edited' })
  const render = await client.post(`/v1/projects/${id}/renders`)
  await until(async () => (await client.get(`/v1/renders/${render.id}`)).state === 'completed')
  const told = await Promise.all([
    client.get(`/v1/projects/${id}`),
    client.get(`/v1/projects/${id}/timeline`),
    client.get(`/v1/projects/${id}/uploads`),
    client.get(`/v1/renders/${render.id}`),
    client.get('/v1/credits'),
    client.post(`/v1/projects/${id}/claim-link`),
    client.log(id),
  ])
  t.match(told[1].tracks, [{}], 'the draft is read')
  t.match(told[4], { available: Number })
  t.ok(backend.count() > 10)
  t.notMatch(JSON.stringify([ended, told]), /polluted|__proto__/)
  t.same(await inherited(), CLEAN)
})

t.test('from clients, in each body, query and header', async t => {
  const id = await client.project()
  const headers = { authorization: `Bearer ${client.token}` }
  const keys = [POISON, '"a":{"b":{"__proto__":{"polluted":"yes"}}}', '"__pr\\u006fto__":{"polluted":"yes"}']
  const query = '?__proto__[polluted]=yes&constructor[prototype][polluted]=yes&__proto__=yes'
  for (const operation of (await allOperations()).filter(({ name }) => !/auth\/session/.test(name))) {
    const bodies = operation.body ? keys : []
    for (const key of bodies) {
      const sound = JSON.stringify(smallest(operation.body)).replace(/^\{/, '')
      const body = `{${key}${sound === '}' ? '' : ','}${sound}`
      const answer = await fetch(url + operation.path.replace(/\{\w+\}/g, id), {
        method: operation.method,
        headers: { ...headers, 'content-type': 'application/json' },
        body,
      })
      t.equal(answer.status, 400, `${operation.name} ${key}`)
      await answer.arrayBuffer()
    }
    const answer = await call(url, operation, {
      id,
      query,
      headers: {
        ...headers,
        ['__proto__']: 'yes',
        constructor: 'yes',
        cookie: '__proto__=yes; constructor=yes',
      },
    })
    t.ok(answer.status < 500, `${operation.name} ${query}: ${answer.status}`)
  }
  t.same(await inherited(), CLEAN)
})
