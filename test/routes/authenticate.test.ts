import t from 'tap'
import { testApp } from '../helpers/app.ts'
import { type Json, signIn } from '../helpers/client.ts'

const PAGE = 'https://app.example'
const { url } = await testApp(t, { env: { ALLOWED_ORIGINS: PAGE } })

/** A guest as a browser has it: the cookie, and nothing that a script could read. */
async function browser() {
  const response = await fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"delivery":"cookie"}',
  })
  return response.headers.get('set-cookie')!.split(';')[0]!
}

async function ask(method: string, path: string, headers: Record<string, string> = {}, body?: string) {
  const response = await fetch(url + path, { method, headers, ...(body === undefined ? {} : { body }) })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, json: text ? JSON.parse(text) : null }
}

const withoutId = ({ requestId, ...problem }: Json) => problem

t.test('whoever is not signed in gets the same answer, whatever was wrong', async t => {
  const { token } = await signIn(url)
  const wrong: Record<string, string>[] = [
    {},
    { authorization: 'Bearer ' },
    { authorization: `Basic ${token}` },
    { authorization: `Bearer ${token}x` },
    { authorization: `Bearer rg_${'A'.repeat(43)}` },
    { authorization: `Bearer ${'A'.repeat(5_000)}` },
    { cookie: '__Host-reelgate=' },
    { cookie: `__Host-reelgate=rg_${'A'.repeat(43)}` },
    { cookie: `reelgate=${token}` },
    { cookie: '__Host-reelgate=%E0%A4%A' },
  ]
  const answers = await Promise.all(wrong.map(headers => ask('GET', '/v1/me', headers)))
  for (const { status, json } of answers) {
    t.equal(status, 401)
    t.same(withoutId(json), withoutId(answers[0]!.json))
  }
  t.match(answers[0]!.json, { code: 'unauthenticated', type: 'urn:reelgate:problem:unauthenticated' })
  t.equal(new Set(answers.map(({ json }) => json.requestId)).size, wrong.length)
})

t.test('a stranger does not learn which projects exist', async t => {
  const id = await (await signIn(url)).project()
  const real = await ask('GET', `/v1/projects/${id}`)
  const missing = await ask('GET', '/v1/projects/nothing')
  t.equal(real.status, 401)
  t.same(withoutId(real.json), withoutId(missing.json))
})

t.test('what changes something needs more than the cookie', async t => {
  const cookie = await browser()
  const own = url
  const change = (headers: Record<string, string>) =>
    ask('POST', '/v1/projects', { 'content-type': 'application/json', ...headers }, '{}')

  t.equal((await ask('GET', '/v1/me', { cookie })).status, 200, 'reading needs no header')
  const refused: Record<string, string>[] = [
    { cookie },
    { cookie, 'x-csrf': '0' },
    { cookie, origin: PAGE },
    { cookie, 'x-csrf': '1', origin: 'https://evil.example' },
    { cookie, 'x-csrf': '1', origin: 'null' },
    { cookie, 'x-csrf': '1', origin: `${PAGE}.evil.example` },
    { cookie, 'x-csrf': '1', origin: PAGE.replace('https', 'http') },
    { cookie, 'x-csrf': '1', 'sec-fetch-site': 'cross-site' },
    { cookie, 'x-csrf': '1', 'sec-fetch-site': 'same-site' },
  ]
  for (const headers of refused) {
    const { status, json } = await change(headers)
    t.equal(status, 403, JSON.stringify({ ...headers, cookie: '…' }))
    t.equal(json.code, 'csrf_required')
  }
  t.same((await ask('GET', '/v1/projects', { cookie })).json.items, [], 'nothing was made')
  for (const headers of [{}, { origin: PAGE }, { origin: own }])
    t.equal((await change({ cookie, 'x-csrf': '1', ...headers })).status, 201, JSON.stringify(headers))
  for (const method of ['PATCH', 'DELETE']) {
    const { status } = await ask(method, '/v1/projects/00000000-0000-7000-8000-000000000000', { cookie })
    t.equal(status, 403, `${method} is guarded too`)
  }
})

t.test('a bearer token needs neither header nor origin, and goes before a cookie', async t => {
  const { token, userId } = await signIn(url)
  const authorization = `Bearer ${token}`
  const headers = { authorization, 'content-type': 'application/json', origin: 'https://evil.example' }
  t.equal((await ask('POST', '/v1/projects', headers, '{}')).status, 201)
  const both = await ask('GET', '/v1/me', { authorization, cookie: await browser() })
  t.equal(both.json.user.id, userId)
})

t.test('a page of another origin may read answers only when it is allowed', async t => {
  const allowed = await ask('GET', '/v1/me', { origin: PAGE })
  t.equal(allowed.headers.get('access-control-allow-origin'), PAGE, 'also of a refusal')
  t.equal(allowed.headers.get('access-control-allow-credentials'), 'true')
  const evil = await ask('GET', '/v1/me', { origin: 'https://evil.example' })
  t.equal(evil.headers.get('access-control-allow-origin'), null)
  const preflight = await fetch(`${url}/v1/projects`, {
    method: 'OPTIONS',
    headers: {
      origin: PAGE,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'x-csrf',
    },
  })
  t.equal(preflight.status, 204)
  t.equal(preflight.headers.get('access-control-allow-headers'), 'x-csrf')
})

t.test('every problem is a problem document', async t => {
  const { token } = await signIn(url)
  const authorization = `Bearer ${token}`
  const json = { authorization, 'content-type': 'application/json' }
  const cases: [status: number, code: string, answer: ReturnType<typeof ask>][] = [
    [401, 'unauthenticated', ask('GET', '/v1/me')],
    [404, 'not_found', ask('GET', '/v1/nothing')],
    [404, 'not_found', ask('GET', '/v1/nothing', { authorization })],
    [400, 'invalid_request', ask('POST', '/v1/projects', json, '{"name":')],
    [400, 'invalid_request', ask('POST', '/v1/projects', json, '{"name":1}{')],
    [400, 'invalid_request', ask('POST', '/v1/projects', json, '{"__proto__":{"name":"a"}}')],
    [400, 'invalid_request', ask('POST', '/v1/projects', json, '{"name":"a\\u0000b"}')],
    [400, 'invalid_request', ask('POST', '/v1/projects', { ...json, 'content-type': 'text/plain' }, 'a')],
    [413, 'payload_too_large', ask('POST', '/v1/projects', json, `{"name":"${'a'.repeat(1_100_000)}"}`)],
  ]
  for (const [status, code, asked] of cases) {
    const { status: was, headers, json, text } = await asked
    t.equal(was, status, `${status} ${code}`)
    t.match(headers.get('content-type'), /^application\/problem\+json/)
    t.match(json, { type: `urn:reelgate:problem:${code}`, status, code, title: String, detail: String })
    t.match(json.requestId, /^[0-9a-f-]{36}$/)
    t.notMatch(text, /\.ts\b|node_modules| at .*:\d+|stack|select |insert /i)
  }
})
