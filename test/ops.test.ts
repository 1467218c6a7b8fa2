import { readFile } from 'node:fs/promises'
import pg from 'pg'
import t from 'tap'
import { testApp } from './helpers/app.ts'
import { follow, type Json, runEnded, signIn } from './helpers/client.ts'
import { until } from './helpers/gateway.ts'

const OPS_TOKEN = 'operators-token-operators-token'
const read = (path: string) => readFile(new URL(`../${path}`, import.meta.url), 'utf8')
const dashboard: Json = JSON.parse(await read('ops/dashboard.json'))
const targets: Json[] = dashboard.panels.flatMap((panel: Json) => panel.targets ?? [])
const rules = [...(await read('ops/alerts.yaml')).matchAll(/- alert: (\w+)\n\s+expr: (.+)\n/g)].map(
  ([, alert = '', expr = '']) => ({ alert, expr }),
)

const { url, database } = await testApp(t, { env: { OPS_TOKEN } })
const headers = { authorization: `Bearer ${OPS_TOKEN}` }
const scrape = async () => (await fetch(`${url}/metrics`, { headers })).text()

// Something of everything has happened: an upload, a message that a socket follows, a render, and a failure.
const alice = await signIn(url)
const projectId = await alice.projectWithClip()
const live = await follow(t, alice, projectId)
const { run } = await alice.post(`/v1/projects/${projectId}/messages`, {
  text: 'Add a title that says Sesame',
})
await live.next(runEnded(run.id))
const render = await alice.post(`/v1/projects/${projectId}/renders`)
await until(async () => (await alice.get(`/v1/renders/${render.id}`)).state === 'completed')
await alice.get('/v1/renders/019ab000-0000-7000-8000-000000000000')
await fetch(`${url}/nowhere/${alice.token}`)
const page = await scrape()
const samples = page.split('\n').flatMap(line => {
  const [, name, labels = '', value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
  return name ? [{ name, value: Number(value), labels: new Map(parseLabels(labels)) }] : []
})

function parseLabels(text: string): [string, string][] {
  return [...text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, name = '', value = '']) => [name, value])
}

const sum = (name: string, labels: Record<string, string> = {}) =>
  samples
    .filter(sample => sample.name === name)
    .filter(sample => Object.entries(labels).every(([label, value]) => sample.labels.get(label) === value))
    .reduce((total, { value }) => total + value, 0)

t.test('the page tells what has happened', async t => {
  const message = { method: 'POST', route: '/v1/projects/:id/messages' }
  t.equal(sum('reelgate_http_requests_total', { ...message, status: '202' }), 1)
  t.equal(sum('reelgate_http_request_duration_seconds_count', message), 1)
  t.equal(sum('reelgate_http_requests_total', { route: '/v1/renders/:id', status: '404' }), 1)
  t.equal(sum('reelgate_upstream_calls_total', { call: 'run', outcome: 'ok' }), 1)
  t.equal(sum('reelgate_upstream_calls_total', { call: 'submitRender', outcome: 'ok' }), 1)
  t.equal(sum('reelgate_upstream_calls_total', { call: 'mintToken', outcome: 'ok' }), 1)
  t.equal(sum('reelgate_runs_ended_total', { state: 'completed' }), 1)
  t.equal(sum('reelgate_run_duration_seconds_count'), 1)
  t.equal(sum('reelgate_renders_ended_total', { state: 'completed' }), 1)
  t.equal(sum('reelgate_render_duration_seconds_count'), 1)
  t.equal(sum('reelgate_uploads_ended_total', { state: 'ready' }), 1)
  t.equal(sum('reelgate_readers'), 1)
  t.equal(sum('reelgate_log_entries_total'), (await alice.log(projectId)).length)
  t.ok(sum('reelgate_log_delivery_delay_seconds_count') > 0)
  t.equal(sum('reelgate_database_up'), 1)
  t.equal(sum('reelgate_render_poll_lag_seconds'), 0)
  t.ok(samples.some(({ name, labels }) => name === 'reelgate_queue_jobs' && labels.get('queue') === 'runs'))
  t.ok(sum('reelgate_db_pool_connections') > 0)
  // Against the sandbox the budget is 1,000.
  t.equal(sum('reelgate_mint_budget_remaining'), 999)
})

t.test('names and labels are as Prometheus recommends, and labels hold no id', async t => {
  const own = samples.filter(({ name }) => name.startsWith('reelgate_'))
  for (const [, name = '', type] of page.matchAll(/^# TYPE (reelgate_\w+) (\w+)$/gm))
    t.equal(/_total$/.test(name), type === 'counter', name)
  t.notOk(page.match(/_ms\b|_milliseconds/))
  const values = own.flatMap(({ labels }) => [...labels.values()])
  t.ok(values.includes('/v1/projects/:id/messages'))
  for (const secret of [alice.token, alice.userId, projectId, run.id, render.id, 'nmv_', 'nowhere'])
    t.notOk(page.includes(secret), `${secret} is not on the page`)
  t.same([...new Set(own.flatMap(({ labels }) => labels.get('platform') ?? []))], ['unknown'])
  t.ok(own.length < 1_500, `${own.length} series`)
})

t.test('every PromQL names what is on the page', async t => {
  const types = [...page.matchAll(/^# TYPE (\w+) (\w+)$/gm)]
  const names = new Set(
    types.flatMap(([, name = '', type]) =>
      type === 'histogram' ? ['_bucket', '_sum', '_count'].map(part => name + part) : [name],
    ),
  )
  const queries = [...rules.map(({ expr }) => expr), ...targets.flatMap(({ expr }) => expr ?? [])]
  t.ok(rules.length > 10 && queries.length > 35)
  for (const query of queries) {
    const metrics = query.match(/\b(reelgate|nodejs|process)_\w+/g) ?? []
    // `up` is what Prometheus itself says of a scrape.
    t.ok(metrics.length > 0 || /^up\{/.test(query), query)
    for (const name of metrics) t.ok(names.has(name), name)
    const known = new Set(
      samples.filter(({ name }) => metrics.includes(name)).flatMap(({ labels }) => [...labels.keys()]),
    )
    // Set by Prometheus at each scrape.
    for (const label of ['instance', 'job']) known.add(label)
    const matched = [...query.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)].map(([, label = '']) => label)
    const grouped = [...query.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(', '))
    for (const label of [...matched, ...grouped]) t.ok(known.has(label), `${label} in ${query}`)
  }
})

t.test('every SQL of the dashboard runs as the role it is for', async t => {
  const client = new pg.Client({ connectionString: database })
  await client.connect()
  t.teardown(() => client.end())
  await client.query('set role reelgate_ops')
  const queries: string[] = targets.flatMap(({ rawSql }) => rawSql ?? [])
  t.ok(queries.length > 10)
  for (const query of queries) {
    // As Grafana's data source for Postgres does it.
    const sql = query.replace(/\$__timeFilter\((\w+)\)/g, `$1 between now() - interval '1 day' and now()`)
    t.notMatch(sql, /\$/)
    const { rows } = await client.query(sql)
    const mayBeEmpty = /next_poll_at <|state = 'failed'|state in \('queued'/.test(sql)
    t.ok(mayBeEmpty || rows.length > 0, query)
  }
  const { rows } = await client.query('select name from ops.queues order by name')
  for (const queue of ['runs', 'sweep'])
    t.ok(
      rows.some(({ name }) => name === queue),
      queue,
    )
  t.ok(
    rows.every(({ name }) => !name.startsWith('__')),
    'without those that pg-boss has for itself',
  )
  await t.rejects(
    client.query('select * from jobs.job'),
    { code: '42501' },
    'the jobs themselves stay closed',
  )
})

t.test('the handbook says what to do for each alert, and what each view and metric is', async t => {
  const handbook = (await read('docs/operating.md')).replace(/ +/g, ' ')
  for (const { alert } of rules) t.ok(handbook.includes(`\`${alert}\``), alert)
  for (const [, name = ''] of page.matchAll(/^# TYPE (reelgate_\w+) /gm))
    t.ok(handbook.includes(`\`${name}\``), name)
  const client = new pg.Client({ connectionString: database })
  await client.connect()
  t.teardown(() => client.end())
  const { rows } = await client.query(`
    select attrelid::regclass::text as view, attname as column, col_description(attrelid, attnum) as comment
    from pg_attribute join pg_class on pg_class.oid = attrelid
    where relnamespace = 'ops'::regnamespace and attnum > 0`)
  t.ok(rows.length > 70)
  for (const { view, column, comment } of rows) {
    const [, section = ''] = handbook.split(`### \`${view}\``)
    const [columns = ''] = section.split('\n#')
    t.ok(columns.includes(`| \`${column}\` | ${comment} |`), `${view}.${column}`)
  }
})

t.test('a project behind a job that failed for good is seen, and what the handbook says helps', async t => {
  const { url, database } = await testApp(t, { env: { OPS_TOKEN } })
  const client = new pg.Client({ connectionString: database })
  await client.connect()
  t.teardown(() => client.end())
  const missing = '019ab000-0000-7000-8000-000000000000'
  await client.query(
    `insert into jobs.job (name, policy, state, singleton_key, retry_limit, data, completed_on)
     values ('runs', 'key_strict_fifo', 'failed', $1, 0, $2, now())`,
    [missing, { projectId: missing, runId: missing }],
  )
  const blocked = async () => {
    const page = await (await fetch(`${url}/metrics`, { headers })).text()
    return Number(/^reelgate_queue_blocked_keys\{queue="runs"\} (\d+)$/m.exec(page)?.[1])
  }
  t.equal(await blocked(), 1)
  const [statement = ''] = /update jobs\.job set [^`]+/.exec(await read('docs/operating.md')) ?? []
  await client.query(statement)
  await until(async () => {
    const { rows } = await client.query(`select state from jobs.job where name = 'runs'`)
    return rows[0]?.state === 'completed'
  })
  const { rows } = await client.query(`select blocked_keys, failed from ops.queues where name = 'runs'`)
  t.same(rows, [{ blocked_keys: '0', failed: '0' }])
})

t.test('the page comes although the database does not', async t => {
  const { url, app, database } = await testApp(t, { env: { OPS_TOKEN } })
  t.match(await (await fetch(`${url}/metrics`, { headers })).text(), /^reelgate_database_up 1$/m)
  t.ok(app)
  const client = new pg.Client({ connectionString: new URL('/postgres', database).href })
  await client.connect()
  t.teardown(() => client.end())
  const name = new URL(database).pathname.slice(1)
  await client.query(`alter database ${name} with allow_connections false`)
  await client.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}' and pid <> pg_backend_pid()`,
  )
  const page = await until(async () => {
    const text = await (await fetch(`${url}/metrics`, { headers })).text()
    return /^reelgate_database_up 0$/m.test(text) && text
  })
  t.notMatch(page, /^reelgate_renders\{/m, 'what is not known is left out')
  t.match(page, /^process_cpu_seconds_total/m)
  await client.query(`alter database ${name} with allow_connections true`)
  await until(async () => {
    const text = await (await fetch(`${url}/metrics`, { headers })).text()
    return /^reelgate_database_up 1$/m.test(text)
  })
})
