import t from 'tap'
import { testApp } from '../helpers/app.ts'
import { type Json, signIn } from '../helpers/client.ts'

const { url } = await testApp(t)
const MISSING = '00000000-0000-7000-8000-000000000000'

async function ask(token: string, method: string, path: string, body?: unknown) {
  const headers = {
    authorization: `Bearer ${token}`,
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  }
  const sent = body === undefined ? {} : { body: JSON.stringify(body) }
  const response = await fetch(url + path, { method, headers, ...sent })
  const text = await response.text()
  return { status: response.status, headers: response.headers, json: text ? JSON.parse(text) : null }
}

t.test('create, read, rename, delete', async t => {
  const { token } = await signIn(url)
  const made = await ask(token, 'POST', '/v1/projects', { name: 'Holiday' })
  t.equal(made.status, 201)
  const { id, cursor, ...project } = made.json
  t.equal(made.headers.get('location'), `/v1/projects/${id}`)
  const { createdAt, lastActivityAt, ...rest } = project
  t.same(rest, { name: 'Holiday', language: 'en', summary: null, exportable: false, revision: 0 })
  for (const time of [createdAt, lastActivityAt]) t.equal(new Date(time).toISOString(), time)

  t.same((await ask(token, 'GET', `/v1/projects/${id}`)).json, { id, cursor, ...project })
  const renamed = await ask(token, 'PATCH', `/v1/projects/${id}`, { name: '假期 🎬' })
  t.match(renamed, { status: 200, json: { id, name: '假期 🎬', createdAt } })
  const { items, cursor: end } = (await ask(token, 'GET', `/v1/projects/${id}/events?after=${cursor}`)).json
  t.equal(items.length, 1, 'the cursor of a snapshot is where its events continue')
  const now = (await ask(token, 'GET', `/v1/projects/${id}`)).json
  t.match(now, { ...items[0].chunk.value, cursor: end }, 'an entry tells of the project as its GET shows it')

  t.equal((await ask(token, 'DELETE', `/v1/projects/${id}`)).status, 204)
  for (const [method, path, body] of routesOf(id))
    t.equal((await ask(token, method, path, body)).status, 404, `${method} ${path}`)
  t.same((await ask(token, 'GET', '/v1/projects')).json, { items: [], next: null })
})

const routesOf = (id: string): [method: string, path: string, body?: unknown][] => [
  ['GET', `/v1/projects/${id}`],
  ['PATCH', `/v1/projects/${id}`, { name: 'Mine' }],
  ['DELETE', `/v1/projects/${id}`],
  ['GET', `/v1/projects/${id}/events`],
  ['GET', `/v1/projects/${id}/timeline`],
  ['GET', `/v1/projects/${id}/runs`],
  ['POST', `/v1/projects/${id}/claim-link`],
  ['POST', `/v1/projects/${id}/messages`, { text: 'Make it shorter' }],
]

t.test('an id that is malformed, missing or somebody else’s gets one answer', async t => {
  const mine = await signIn(url)
  const foreign = await (await signIn(url)).project()
  const ids = [
    MISSING,
    foreign,
    'x',
    '1',
    foreign.toUpperCase(),
    `${foreign}0`,
    'a%00b',
    '%2e%2e%2fetc',
    '0'.repeat(128),
  ]
  for (const [i, [method, pattern]] of routesOf(MISSING).entries()) {
    const answers = await Promise.all(
      ids.map(id => {
        const [, path, body] = routesOf(id)[i]!
        return ask(mine.token, method, path, body)
      }),
    )
    const bodies = answers.map(({ status, headers, json: { requestId, ...problem } }) => {
      t.ok(requestId)
      return { status, type: headers.get('content-type'), problem }
    })
    t.match(bodies[0], {
      status: 404,
      problem: { code: 'not_found', detail: 'It does not exist, or it is not yours.' },
    })
    for (const [n, body] of bodies.entries()) t.same(body, bodies[0], `${method} ${pattern} with ${ids[n]}`)
  }
  const owners = { query: `/v1/projects?after=${foreign}` }
  t.same((await ask(mine.token, 'GET', owners.query)).json.items, [], 'nor does paging tell')
})

t.test('paging', async t => {
  const { token } = await signIn(url)
  const ids: string[] = []
  for (let i = 0; i < 7; i++)
    ids.unshift((await ask(token, 'POST', '/v1/projects', { name: `${i}` })).json.id)
  const seen: string[][] = []
  for (let next: string | null = ''; next !== null; ) {
    const page: Json = (await ask(token, 'GET', `/v1/projects?limit=3${next && `&after=${next}`}`)).json
    seen.push(page.items.map(({ id }: Json) => id))
    next = page.next
  }
  t.same(seen, [ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)], 'newest first, none twice, none left out')
  const exact = (await ask(token, 'GET', '/v1/projects?limit=7')).json
  t.match(exact, { items: { length: 7 }, next: null }, 'a full last page is the last')
  t.notOk(
    exact.items.some((item: Json) => 'cursor' in item),
    'a list is no snapshot',
  )
  for (const query of [
    'limit=0',
    'limit=201',
    'limit=-1',
    'limit=1.5',
    'limit=a',
    'limit=',
    'page=2',
    'limit=1&limit=2',
  ])
    t.match(
      await ask(token, 'GET', `/v1/projects?${query}`),
      { status: 400, json: { code: 'invalid_request' } },
      query,
    )
  for (const after of ['x', '', '%00', `${MISSING}'--`])
    t.equal((await ask(token, 'GET', `/v1/projects?after=${after}`)).status, 400, `after=${after}`)
})

t.test('the language is the one asked for, else the client’s', async t => {
  const client = await signIn(url)
  const made = async (body: object, said?: string): Promise<string> =>
    (await client.post('/v1/projects', body, said === undefined ? {} : { 'accept-language': said })).language
  t.equal(await made({}, 'zh-CN,zh;q=0.9'), 'zh-CN')
  t.equal(await made({ language: 'fr' }, 'zh-CN'), 'fr')
  t.equal(await made({}), 'en')
  t.equal(await made({}, '*;q=0.1'), 'en')
  t.equal(await made({}, `de${'-abcdefgh'.repeat(20)}`), 'en', 'what no project may be given, none gets')
})

t.test('a body that is not exactly what is asked for', async t => {
  const client = await signIn(url)
  const id = await client.project()
  const bodies = [
    { name: 'a', color: 'red' },
    { name: '' },
    { name: 'a'.repeat(201) },
    { name: {} },
    { name: null },
    { language: 'x' },
    [],
  ]
  for (const body of bodies) {
    const answer = await ask(client.token, 'POST', '/v1/projects', body)
    t.match(
      answer,
      { status: 400, json: { code: 'invalid_request', requestId: String } },
      JSON.stringify(body),
    )
  }
  for (const body of [{}, { name: 'a', id: MISSING }, { name: 'a', revision: 9 }])
    t.equal((await ask(client.token, 'PATCH', `/v1/projects/${id}`, body)).status, 400, JSON.stringify(body))
  t.equal((await ask(client.token, 'GET', '/v1/projects')).json.items.length, 1, 'nothing was made')
  t.equal((await ask(client.token, 'GET', `/v1/projects/${id}`)).json.name, 'Untitled')
})

t.test('of many who ask at once, each gets what is theirs, and who has signed out nothing', async t => {
  const users = await Promise.all(Array.from({ length: 9 }, () => signIn(url)))
  const ids = await Promise.all(users.map(user => user.project()))
  await users[0]!.remove('/v1/auth/session')
  const answers = await Promise.all(
    users.flatMap(user =>
      ids.map(async id => {
        const { status, json } = await ask(user.token, 'GET', `/v1/projects/${id}`)
        return status === 200 ? json.id : status
      }),
    ),
  )
  const expected = users.flatMap((_, i) => ids.map((id, j) => (i === 0 ? 401 : i === j ? id : 404)))
  t.same(answers, expected)
})
