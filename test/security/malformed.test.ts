import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { ClientFrame } from '../../src/routes/live-socket.ts'
import { type Json, signIn } from '../helpers/client.ts'
import { openLive } from '../helpers/frames.ts'
import { allOperations, call, fieldsOf, type Operation, smallest } from './operations.ts'
import { startProduction } from './production.ts'

/** Cases of each field; more with REELGATE_FUZZ, as `npm run attack` does. */
const CASES = Number(process.env.REELGATE_FUZZ ?? 6)
const gateway = await startProduction(t)
const { url } = gateway
const operations = await allOperations()
const client = await signIn(url)
const headers = { authorization: `Bearer ${client.token}` }
const project = await client.projectWithClip()
const { run } = await client.post(`/v1/projects/${project}/messages`, { text: 'hello', intent: 'chat' })
const upload = (await client.get(`/v1/projects/${project}/uploads`)).items[0].id
const render = (await client.post(`/v1/projects/${project}/renders`)).id
const things: Record<string, string> = { projects: project, runs: run.id, uploads: upload, renders: render }
const idFor = ({ path }: Operation) => things[/(\w+)\/\{/.exec(path)?.[1] ?? ''] ?? project

const NASTY = [
  '',
  ' ',
  '\0',
  '\r\nx-evil: 1',
  '\u2028',
  '\ud800',
  '../../etc/passwd',
  "' or 1=1 --",
  '<script>alert(1)</script>',
  '{{7*7}}',
  '%00',
  'x'.repeat(9_000),
  '__proto__',
  '😀'.repeat(300),
]
const JUNK: Json[] = [
  null,
  true,
  -1,
  0,
  1.5,
  2 ** 53,
  1e308,
  [],
  [[]],
  {},
  { constructor: { prototype: {} } },
]
const value = fc.oneof(
  fc.constantFrom(...NASTY),
  fc.constantFrom(...JUNK),
  fc.jsonValue({ maxDepth: 3 }),
  fc.string(),
)

/** One that ends or takes away what the others need. */
const isHarmless = ({ name }: Operation) => !/^DELETE |auth\/session/.test(name)

function check(operation: Operation, answer: Awaited<ReturnType<typeof call>>, what: string) {
  const { status, type, text } = answer
  if (status >= 500) throw new Error(`${operation.name} ${what} answered ${status}: ${text}`)
  if (!operation.announces(status, type, text))
    throw new Error(`${operation.name} ${what} answered what is not announced: ${status} ${type} ${text}`)
}

const forEach = (arbitrary: fc.Arbitrary<unknown>, ask: (value: unknown) => Promise<void>) =>
  fc.assert(fc.asyncProperty(arbitrary, ask), { numRuns: CASES, seed: 7 })

t.test('every field of every body', async t => {
  for (const operation of operations.filter(({ body }) => body).filter(isHarmless))
    for (const way of fieldsOf(operation.body)) {
      await forEach(value, async wrong => {
        const body = smallest(operation.body)
        let holder = body
        for (const name of way.slice(0, -1)) holder = holder[name] ??= {}
        holder[way.at(-1)!] = wrong
        check(operation, await call(url, operation, { id: idFor(operation), body, headers }), way.join('.'))
      })
      t.pass(`${operation.name} ${way.join('.')}`)
    }
})

t.test('every parameter of every query', async t => {
  for (const operation of operations)
    for (const name of Object.keys(operation.query)) {
      await forEach(value, async wrong => {
        const text = typeof wrong === 'string' ? wrong.toWellFormed() : JSON.stringify(wrong)
        const query = `?${name}=${encodeURIComponent(text)}`
        check(operation, await call(url, operation, { id: idFor(operation), query, headers }), query)
      })
      for (const query of [`?${name}=a&${name}=b`, `?${name}[]=1`, `?${name}=%`, `?${name}=%00`, `?${name}`])
        check(operation, await call(url, operation, { id: idFor(operation), query, headers }), query)
      t.pass(`${operation.name} ?${name}`)
    }
})

t.test('bodies that are no such body, and fields that nobody asked for', async t => {
  const bodies = [
    '',
    '{',
    'null',
    '[]',
    '"a"',
    '0',
    '{"__proto__":{}}',
    '{"a":1e400000}',
    '\ufeff{}',
    '[1,2',
    '{}{}',
  ]
  for (const operation of operations.filter(({ changes }) => changes).filter(isHarmless)) {
    for (const body of bodies) {
      const id = idFor(operation)
      const more = { ...headers, 'content-type': 'application/json' }
      check(operation, await call(url, operation, { id, body, headers: more }), body)
    }
    if (operation.body?.additionalProperties !== false) continue
    for (const extra of ['userId', 'state', 'credits', 'lease', 'kind', 'constructor']) {
      const body = { ...smallest(operation.body), [extra]: 'x' }
      if (operation.body.properties[extra]) continue
      const { status } = await call(url, operation, { id: idFor(operation), body, headers })
      t.equal(status, 400, `${operation.name} with ${extra}`)
    }
  }
})

t.test('headers that carry what is not theirs', async t => {
  const nasty = ['x'.repeat(4_000), '\t', '"', '{{7*7}}', '=?utf-8?q?x?=', '\x80\xff', 'a,b;c=d', '../x']
  const names = [
    'accept-language',
    'x-client-app',
    'idempotency-key',
    'last-event-id',
    'range',
    'cookie',
    'accept',
  ]
  const operation = operations.find(({ name }) => name === 'POST /v1/projects')!
  for (const name of names)
    for (const text of nasty) {
      const answer = await call(url, operation, { body: {}, headers: { ...headers, [name]: text } })
      check(operation, answer, `${name}: ${text.slice(0, 20)}`)
    }
  const named = await client.post('/v1/projects', { name: 'a\r\nset-cookie: x=1\r\n\u2028' })
  t.equal(named.http.headers.get('set-cookie'), null)
  const log = (await client.get(`/v1/projects/${named.id}/events`)).items
  t.ok(Array.isArray(log))
})

t.test('addresses of files that must not be fetched, however they are spelt', async t => {
  const refused = [
    'http://169.254.169.254/latest/meta-data',
    'http://[::ffff:169.254.169.254]/',
    'http://[::ffff:a9fe:a9fe]/',
    'http://[64:ff9b::a9fe:a9fe]/',
    'http://[2002:a9fe:a9fe::]/',
    'http://[fd00:ec2::254]/',
    'http://[::]/',
    'http://[::1]/',
    'http://0/',
    'http://0x7f000001/',
    'http://2130706433/',
    'http://127.1/',
    'http://0177.0.0.1/',
    'http://127。0。0。1/',
    'http://localhost/',
    'http://localhost./',
    'http://a.localhost/',
    'http://user@example.com/',
    'http://user:pass@example.com/',
    'http://evil.example#@example.com/',
    'http://example.com\\@127.0.0.1/',
    'http:example.com',
    'http:///example.com',
    'file:///etc/passwd',
    'gopher://example.com/',
    'data:video/mp4;base64,AAAA',
    'javascript:alert(1)',
    'ftp://example.com/a.mp4',
    'http://example.com:22/',
    'http://example.com:5432/',
    'http://example.com:6379/',
    'http://100.64.0.1/',
    'http://10.0.0.1/',
    'http://192.168.0.1/',
    'http://172.16.0.1/',
    'http://224.0.0.1/',
    'http://255.255.255.255/',
    'http://example.com/\r\nx: y',
    ' http://127.0.0.1/',
    '//127.0.0.1/',
  ]
  const before = gateway.sandbox.journal().length
  for (const address of refused) {
    const answer = await client.post(`/v1/projects/${project}/uploads`, { urls: [address] })
    t.match(answer, { status: 422, code: 'url_not_allowed' }, address)
  }
  const asked = gateway.sandbox.journal().slice(before)
  t.notOk(
    asked.some(({ endpoint }) => endpoint === 'upload'),
    'none of them was passed on',
  )
})

t.test('every field of every frame', async t => {
  const variants = ClientFrame.anyOf as unknown as { properties: Record<string, Json> }[]
  for (const { properties } of variants)
    for (const name of Object.keys(properties))
      await forEach(value, async wrong => {
        const good = Object.fromEntries(
          Object.entries(properties).map(([key, field]) => [key, field.const ?? randomUUID()]),
        )
        const live = openLive(t, url, { headers })
        await live.send({ ...good, [name]: wrong as Json }, { type: 'ping' })
        const end = await Promise.race([
          live.next(({ type }) => type === 'pong').then(() => 'open'),
          live.closed,
        ])
        live.socket.terminate()
        if (end !== 'open' && end !== 4501) throw new Error(`${JSON.stringify(wrong)} closed with ${end}`)
      })
  t.pass('each was answered, or its socket closed as api.md says')
})

t.test('the process is the one that was started, and said nothing it should not', async t => {
  t.equal((await fetch(`${url}/healthz`)).status, 200)
  t.equal(gateway.process.exitCode, null)
  const output = gateway.output()
  t.notMatch(output, client.token)
  t.notMatch(output, /"level":(50|60)/, 'nothing failed inside')
  for (const line of output.trim().split('\n')) t.ok(line.startsWith('{'), 'one line is one JSON object')
})
