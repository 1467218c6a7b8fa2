import pg from 'pg'
import t, { type Test } from 'tap'
import { testApp } from '../helpers/app.ts'
import { type Json, signIn } from '../helpers/client.ts'
import { until } from '../helpers/gateway.ts'

const OPS_TOKEN = 'operators-token-operators-token'

async function startOps(t: Test, env: Record<string, string> = {}) {
  const { url, database, sandbox } = await testApp(t, { env: { OPS_TOKEN, ...env } })
  async function ask(path: string, { token = OPS_TOKEN, method = 'GET' } = {}) {
    const response = await fetch(url + path, { method, headers: { authorization: `Bearer ${token}` } })
    const text = await response.text()
    return { status: response.status, text, json: (text ? JSON.parse(text) : null) as Json }
  }
  const sql = async (text: string, values: unknown[] = []) => {
    const client = new pg.Client({ connectionString: database })
    await client.connect()
    return (await client.query(text, values).finally(() => client.end())).rows
  }
  return { url, ask, sql, sandbox }
}

t.test('without OPS_TOKEN there are no such routes', async t => {
  const { url } = await testApp(t)
  for (const path of ['/ops/v1/overview', '/ops/v1/renders', '/metrics'])
    t.equal((await fetch(url + path, { headers: { authorization: 'Bearer null' } })).status, 404, path)
})

t.test('only the operators’ token opens them', async t => {
  const { url, ask } = await startOps(t)
  const { token } = await signIn(url)
  for (const path of ['overview', 'renders', 'runs', 'accounts', 'uploads']) {
    t.equal((await fetch(`${url}/ops/v1/${path}`)).status, 401, 'no token')
    for (const other of [token, `${OPS_TOKEN}x`, OPS_TOKEN.slice(1), 'null'])
      t.match(await ask(`/ops/v1/${path}`, { token: other }), {
        status: 401,
        json: { code: 'unauthenticated' },
      })
    t.equal((await ask(`/ops/v1/${path}`)).status, 200)
  }
  t.equal((await ask('/v1/me')).status, 401, 'and it opens nothing else')
})

t.test('operators see what goes on, and no secret', async t => {
  const { url, ask, sql } = await startOps(t)
  const alice = await signIn(url)
  const projectId = await alice.projectWithClip()
  const run = await alice.post(`/v1/projects/${projectId}/messages`, { text: 'Add a title that says Sesame' })
  await until(async () => (await alice.get(`/v1/runs/${run.run.id}`)).state === 'completed')
  const render = await alice.post(`/v1/projects/${projectId}/renders`)
  await until(async () => (await alice.get(`/v1/renders/${render.id}`)).state === 'completed')

  const answers = []
  for (const path of ['overview', 'renders', 'runs', 'accounts', 'uploads'])
    answers.push(await ask(`/ops/v1/${path}`))
  const [overview, renders, runs, accounts, uploads] = answers.map(({ json }) => json)

  t.match(overview.renders, { active: { queued: 0, submitting: 0, rendering: 0 } })
  for (const name of ['lastHour', 'lastDay', 'lastWeek']) {
    t.match(overview.renders.windows[name], { succeeded: 1, failed: 0, successRate: 1 })
    t.ok(overview.renders.windows[name].p95Ms >= overview.renders.windows[name].p50Ms)
    t.match(overview.runs.windows[name], { succeeded: 1, failed: 0 })
    t.match(overview.uploads.windows[name], { succeeded: 1, failed: 0 })
  }
  t.match(overview.mintBudget, { budget: 1_000, delivered: 1, remaining: 999 })
  t.ok(overview.queues.some((queue: Json) => queue.name === 'runs' && queue.blockedKeys === 0))

  t.match(renders.items, [
    { id: render.id, projectId, userId: alice.userId, state: 'completed', attempts: 1 },
  ])
  t.match(runs.items, [{ id: run.run.id, state: 'completed', delivery: 'acknowledged' }])
  t.match(uploads.items, [{ projectId, state: 'ready', mediaType: 'video/mp4' }])
  t.match(accounts.items, [{ userId: alice.userId, kind: 'anonymous', state: 'ready', hasToken: true }])

  const [secrets] = await sql(`
    select sealed_token, client_id, upstream_user_id, projects.session_id, task_id, upstream_id, file_url, text, filename
    from upstream_accounts, projects, render_attempts, renders, runs, uploads`)
  const everything = answers.map(({ text }) => text).join()
  for (const [name, secret] of Object.entries({ ...secrets, token: alice.token, upstream: 'nmv_' }))
    if (secret) t.notOk(everything.includes(String(secret)), `${name} is not shown`)
  t.ok(
    secrets.sealed_token && secrets.client_id && secrets.session_id && secrets.upstream_id,
    'there were some',
  )
})

t.test('lists are filtered and paged like the rest of the API', async t => {
  const { url, ask, sql } = await startOps(t)
  const alice = await signIn(url)
  const bob = await signIn(url)
  const projects = [await alice.project(), await bob.project()]
  for (const [n, projectId] of [0, 1, 1, 0, 1].map(i => projects[i]).entries())
    await sql(
      `insert into renders (id, project_id, user_id, platform, state, format, quality, revision, problem, next_poll_at)
       select $1::uuid, id, user_id, 'ios', $3, 'mp4', 'high', 1, $4, null from projects where id = $2`,
      [
        `019ab000-0000-7000-8000-00000000000${n}`,
        projectId,
        n % 2 ? 'failed' : 'completed',
        n % 2 ? { code: 'render_lost' } : null,
      ],
    )
  const ids = (list: Json) => list.json.items.map((item: Json) => Number(item.id.at(-1)))
  const first = await ask('/ops/v1/renders?limit=2')
  t.same(ids(first), [4, 3])
  const second = await ask(`/ops/v1/renders?limit=2&after=${first.json.next}`)
  t.same(ids(second), [2, 1])
  const third = await ask(`/ops/v1/renders?limit=2&after=${second.json.next}`)
  t.same([ids(third), third.json.next], [[0], null])

  t.same(ids(await ask('/ops/v1/renders?state=failed')), [3, 1])
  t.same(ids(await ask('/ops/v1/renders?problemCode=render_lost&limit=1')), [3])
  t.same(ids(await ask(`/ops/v1/renders?userId=${bob.userId}`)), [4, 2, 1])
  t.same(ids(await ask(`/ops/v1/renders?projectId=${projects[0]}&state=completed`)), [0])
  t.same(ids(await ask('/ops/v1/renders?platform=web')), [])
  for (const bad of ['state=other', 'limit=0', 'limit=201', 'after=1', 'userId=x', 'secret=1', "platform='"])
    t.match(await ask(`/ops/v1/renders?${bad}`), { status: 400, json: { code: 'invalid_request' } }, bad)
})

t.test('a render is looked at now', async t => {
  const { url, ask, sandbox } = await startOps(t, { RENDER_POLL_MS: '600000' })
  const alice = await signIn(url)
  const projectId = await alice.projectWithClip()
  const { id } = await alice.post(`/v1/projects/${projectId}/renders`)
  const shown = async () => (await ask(`/ops/v1/renders?projectId=${projectId}`)).json.items[0]
  await until(async () => {
    const render = await shown()
    return render.state === 'rendering' && !render.claimed
  })
  const polls = () => sandbox.journal().filter(entry => entry.endpoint === 'render_poll').length
  const before = polls()
  const answer = await ask(`/ops/v1/renders/${id}/advance`, { method: 'POST' })
  t.match(answer, { status: 202, json: { id, state: 'rendering' } })
  await until(
    async () => polls() > before || (await shown()).polls > 0 || (await shown()).state === 'completed',
  )

  await until(async () => {
    await ask(`/ops/v1/renders/${id}/advance`, { method: 'POST' })
    return (await shown()).state === 'completed'
  })
  const ended = await shown()
  t.match(await ask(`/ops/v1/renders/${id}/advance`, { method: 'POST' }), { status: 202, json: ended })
  t.same(await shown(), ended, 'one that has ended stays as it is')
  const missing = '019ab000-0000-7000-8000-000000000000'
  t.match(await ask(`/ops/v1/renders/${missing}/advance`, { method: 'POST' }), {
    status: 404,
    json: { code: 'not_found' },
  })
})
