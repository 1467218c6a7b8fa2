/** Drives every path on which a secret has been seen to escape, then looks for it wherever somebody could read it. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { Sandbox } from '../../sandbox/server.ts'
import { type Json, signIn } from '../helpers/client.ts'
import { query } from '../helpers/cluster.ts'
import { startCollector } from '../helpers/collector.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { openLive } from '../helpers/frames.ts'
import { FAST, spawnGateway, startGateway, until } from '../helpers/gateway.ts'
import { startSandbox } from '../sandbox/helpers.ts'

const canary = (prefix = '') => `${prefix}canary${randomBytes(24).toString('hex')}`

/** The value as it would stand in a text, in base64 at any offset, in hex and in a URL. */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret)
  const base64 = [0, 1, 2].map(offset => {
    const shifted = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
    // The first and the last letters depend on what stands beside it.
    return shifted.slice(offset + 2, -4)
  })
  const encoded = [...base64, ...base64.map(text => text.replaceAll('+', '-').replaceAll('/', '_'))]
  return [secret, bytes.toString('hex'), encodeURIComponent(secret), ...encoded]
}

/** Where it was found, to tell which path leaked. */
function around(text: string, secret: string) {
  const at = text.indexOf(secret)
  return at < 0 ? '' : text.slice(Math.max(0, at - 120), at)
}

function findAny(text: string, secrets: Record<string, string>): string[] {
  return Object.entries(secrets).flatMap(([name, secret]) =>
    formsOf(secret).some(form => text.includes(form)) ? [`${name}: ${around(text, secret)}`] : [],
  )
}

/** Every row of every table, as a dump would show it. */
async function dump(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const tables = await client.query(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables
     where schemaname not in ('pg_catalog', 'information_schema')`,
  )
  const lines: string[] = []
  // bytea shows as hex: what hides in one is looked for as text too.
  for (const { name } of tables.rows)
    for (const { row } of (await client.query(`select t::text as row from ${name} t`)).rows)
      lines.push(
        row,
        row.replace(/\\\\?x([0-9a-f]+)/g, (_: string, hex: string) => `${Buffer.from(hex, 'hex')}`),
      )
  await client.end()
  return lines.join('\n')
}

/** The gateway's own login, whose password is a canary. */
async function loginWith(t: Test, password: string) {
  const url = new URL(await testDatabaseUrl(t))
  const admin = url.href
  const name = `canary_${randomBytes(6).toString('hex')}`
  await query(admin, `create role ${name} login superuser password '${password}'`)
  t.teardown(() => query(admin, `drop owned by ${name} cascade; drop role ${name}`).catch(() => {}))
  url.username = name
  url.password = password
  return { admin, url: url.href }
}

/** Throws from outside every request, as a bug would, when it is told to. */
const CRASH = (secret: string) =>
  `--import data:text/javascript,${encodeURIComponent(`
    process.on('SIGUSR2', () => {
      console.warn('a library warns of ${secret}')
      process.emitWarning('a warning with ${secret}')
      Promise.reject(Object.assign(new Error('lost ${secret}', { cause: new Error('Bearer ${secret}') }), { headers: { authorization: 'Bearer ${secret}' } }))
    })`)}`

const frame = (text: string) =>
  `data: ${JSON.stringify({ content: { parts: [{ text }], role: 'model' }, author: 'nemo_agent' })}\n\n`

async function stage(t: Test, more: Record<string, string> = {}) {
  const secrets: Record<string, string> = {
    'database password': canary(),
    OPS_TOKEN: canary(),
    'a library’s token': canary('nmv_usr_'),
    'a stranger’s token': canary('nmv_usr_'),
  }
  const key = randomBytes(32)
  secrets['the key'] = key.toString('base64').replace(/=+$/, '')
  secrets['the key in hex'] = key.toString('hex')
  const { admin, url } = await loginWith(t, secrets['database password']!)
  const sandbox = await startSandbox(t)
  const gateway = await startGateway(t, {
    ...FAST,
    NODE_ENV: 'production',
    LOG_LEVEL: 'trace',
    DATABASE_URL: url,
    NEMO_API_URL: sandbox.url,
    TOKEN_KEYS: `canary:${key.toString('base64')}`,
    OPS_TOKEN: secrets.OPS_TOKEN!,
    NODE_OPTIONS: CRASH(secrets['a library’s token']!),
    ...more,
  })
  return { secrets, admin, sandbox, gateway }
}

/** What the sandbox says instead, with the caller's own token in it. */
function echoes(sandbox: Sandbox, token: string) {
  const json = `{"code":500,"message":"bad Authorization: Bearer ${token}","token":"${token}"}`
  const html = `<html><body>upstream error for Bearer ${token}</body></html>`
  return {
    on(endpoint: Parameters<Sandbox['faults']['add']>[0]['on']) {
      const answers = [
        { body: json, status: 500 },
        { body: json, status: 400 },
        { body: json, status: 200 },
        { body: html, status: 502, contentType: 'text/html' },
        { body: html, status: 403, contentType: 'text/html' },
        { body: `{"token":"${token}`, status: 200 },
        { body: '', status: 302, headers: { location: `https://elsewhere.example/?token=${token}` } },
        { body: json, status: 500, headers: { 'x-echo': `Bearer ${token}`, 'set-cookie': `t=${token}` } },
      ]
      for (const answer of answers) sandbox.faults.add({ on: endpoint, answer: 'body', ...answer })
      return answers.length
    },
  }
}

t.test(
  'no secret is found in logs, answers, frames, events, traces, metrics or the database',
  { timeout: 110_000 },
  async t => {
    const collector = await startCollector(t)
    const traced = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
    const { secrets, admin, sandbox, gateway } = await stage(t, traced)
    const { url } = gateway
    const told: string[] = []
    const alice = await signIn(url)
    const bob = await signIn(url)
    secrets['alice’s credential'] = alice.token.slice(3)
    secrets['bob’s credential'] = bob.token.slice(3)

    async function ask(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
      const response = await fetch(url + path, {
        method,
        headers: {
          authorization: `Bearer ${alice.token}`,
          referer: `https://app.example/?ticket=${bob.token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      })
      const text = await response.text()
      told.push(text, JSON.stringify([...response.headers]))
      return { status: response.status, json: (text.startsWith('{') ? JSON.parse(text) : {}) as Json }
    }

    // A token that is none, because it would break the header it stands in.
    const broken = JSON.stringify({ code: 0, data: { token: `${secrets['a stranger’s token']}\r\nx: y` } })
    sandbox.faults.add({ on: 'mint', answer: 'body', body: broken })
    t.equal((await ask('GET', '/v1/credits')).status, 200, 'it is not used, and another one is asked for')
    const token = sandbox.state.world.accounts.at(-1)!.token
    secrets['alice’s token'] = token.slice('nmv_usr_'.length)
    const { id } = (await ask('POST', '/v1/projects', {}, { 'idempotency-key': 'project' })).json
    const other = (await ask('POST', '/v1/projects', {})).json.id

    const { ticket } = await alice.post('/v1/auth/tickets', {})
    secrets['a ticket'] = ticket.slice(4)
    const live = openLive(t, url, { query: `?ticket=${ticket}` })
    await live.send({ type: 'subscribe', projectId: id })
    await live.next(frame => frame.type === 'subscribed')
    const stale = openLive(t, url, { query: `?ticket=${ticket}` })
    await Promise.race([stale.closed, stale.opened])
    const rude = openLive(t, url, { headers: { authorization: `Bearer ${alice.token}` } })
    await rude.send(
      { type: 'hello', token: alice.token },
      { type: 'subscribe', projectId: alice.token.slice(0, 9) },
    )
    await rude.send(alice.token)
    await rude.closed

    // The backend echoes what it was sent.
    const echo = echoes(sandbox, token)
    for (let n = echo.on('credits'); n > 0; n--) await ask('GET', '/v1/credits')
    for (let n = echo.on('session'); n > 0; n--) await ask('GET', `/v1/projects/${other}/timeline`)
    await ask('GET', `/v1/projects/${id}/timeline`)
    for (let n = echo.on('state'); n > 0; n--) await ask('GET', `/v1/projects/${id}/timeline`)
    for (let n = echo.on('claim'); n > 0; n--)
      await ask('POST', `/v1/projects/${id}/claim-link`, {}, { 'idempotency-key': `claim-${n}` })
    for (let n = echo.on('upload'); n > 0; n--)
      await ask('POST', `/v1/projects/${id}/uploads`, { urls: [`https://cdn.example/${n}.mp4`] })

    // In its stream: as an error, as text, as something that is no frame at all.
    const done = async (text: string) => {
      const { run } = (await ask('POST', `/v1/projects/${id}/messages`, { text, intent: 'chat' })).json
      return until(async () => {
        const { json } = await ask('GET', `/v1/runs/${run.id}`)
        return ['completed', 'failed', 'stopped'].includes(json.state) && json
      }, 30_000)
    }
    for (const spelling of ['code', 'error', 'details', 'raw'] as const) {
      sandbox.faults.add({
        on: 'run',
        answer: 'error_frame',
        spelling,
        message: `Bearer ${token} was refused`,
      })
      await done(`Make it shorter, ${spelling}`)
    }
    const streamed = `${frame(`Your token is ${token}, and the link ?t=${token}.`)}${frame('I have done it.')}`
    sandbox.faults.add({ on: 'run', answer: 'body', body: streamed, contentType: 'text/event-stream' })
    const said = await done('Say it')
    t.match(said.reply, /Your token is nmv_usr_\[secret\]/, 'the rest of the text is kept')
    sandbox.faults.add({ on: 'run', answer: 'bad_frame', data: `{"token":"${token}` })
    await done('Make it longer')
    sandbox.faults.add({ on: 'run', answer: 'body', status: 500, body: `{"message":"Bearer ${token}"}` })
    await done('Make it louder')

    // Bad requests, with a credential where none belongs.
    const stray = secrets['a stranger’s token']!
    for (const path of [
      `/v1/nothing/${stray}?ticket=${bob.token}`,
      `/v1/projects/${stray}`,
      `/v1/projects?limit=${stray}`,
      `/v1/projects?after=${bob.token}`,
      `/v1/live?ticket=${bob.token}`,
      `/v1/projects/${id}/events?after=${stray}`,
    ])
      await ask('GET', path)
    await ask('POST', '/v1/projects', `{"name":"Bearer ${bob.token}`)
    await ask('POST', '/v1/projects', { name: `\u0000 ${'x'.repeat(30)}` })
    await ask('POST', '/v1/projects', { [stray]: 1 })
    await ask('GET', '/v1/me', undefined, { authorization: `Bearer ${bob.token}x` })
    await ask('GET', '/v1/me', undefined, { authorization: `Basic ${stray}` })
    for (const name of ['x-client-app', 'traceparent', 'tracestate', 'baggage', 'user-agent', 'x-request-id'])
      await ask('GET', '/v1/projects', undefined, { [name]: `${stray}-${bob.token}` })
    await ask('PURGE', `/v1/${stray}`)
    told.push(
      await rawRequest(
        url,
        `GET /v1/me HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${bob.token}\x01\r\n\r\n`,
      ),
    )
    told.push(await rawRequest(url, `GET /${stray} HTTP/1.1\r\nbad header ${bob.token}\r\n\r\n`))

    // The database goes while it is asked.
    for (let n = 0; n < 3; n++) {
      const asked = [1, 2, 3].map(() => ask('GET', `/v1/projects/${id}?x=${stray}`))
      await query(
        admin,
        `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`,
      )
      await Promise.all(asked)
    }
    await until(async () => (await ask('GET', '/v1/me')).status === 200)

    // What operators and their tools see.
    const forOperators = { authorization: `Bearer ${secrets.OPS_TOKEN}` }
    const pages = [
      '/metrics',
      ...['overview', 'accounts', 'runs', 'renders', 'uploads'].map(p => `/ops/v1/${p}`),
    ]
    const seen = await Promise.all(
      pages.map(async path => {
        const answer = await fetch(url + path, { headers: forOperators })
        t.equal(answer.status, 200, path)
        return answer.text()
      }),
    )
    t.match(seen[0], /reelgate_upstream_calls_total\{[^}]*outcome="(?!ok)/, 'failures are counted')
    t.same(findAny(seen.join('\n'), secrets), [], 'the metrics and the pages for operators')
    await until(async () => collector.spans().some(({ name }) => name === 'GET /metrics'))
    const spans = collector.spans()
    for (const name of ['run', 'log append', 'upstream credits', 'upstream run'])
      t.ok(
        spans.some(span => span.name === name),
        `${name} is traced`,
      )
    t.same(findAny(collector.text(), secrets), [], 'the traces')

    // At last it crashes.
    gateway.kill('SIGUSR2')
    t.not(await gateway.ended, 0)

    const logs = gateway.output()
    t.match(logs, /a library warns of nmv_usr_\[secret\]/, 'what libraries print was seen')
    t.match(logs, /lost nmv_usr_\[secret\]/, 'and the crash')
    t.match(logs, /"route":"\/v1\/live"/, 'and the access log')
    t.same(findAny(logs, secrets), [], 'the logs')
    // The names of unknown members are told back to whoever sent them; here the sender is the stranger.
    const { 'a stranger’s token': _, ...notTold } = secrets
    t.same(findAny(told.join('\n'), notTold), [], 'the answers')
    t.ok(live.frames.length > 10)
    t.same(findAny(JSON.stringify([live.frames, rude.frames]), secrets), [], 'the frames')
    const rows = await dump(admin)
    t.match(rows, /Your token is nmv_usr_\[secret\]/, 'the dump holds the log')
    t.same(findAny(rows, secrets), [], 'the database')
  },
)

t.test('a start that fails tells no secret', async t => {
  const password = canary()
  const key = randomBytes(24).toString('base64')
  const failing = {
    'no database': { DATABASE_URL: `postgres://gate:${password}@127.0.0.1:1/x`, TOKEN_KEYS: '' },
    'a wrong key': { DATABASE_URL: `postgres://gate:${password}@127.0.0.1:1/x`, TOKEN_KEYS: `k:${key}` },
    'a wrong token': { OPS_TOKEN: `${password} with spaces`, NEMO_TOKEN: `${password}\nx` },
    'a wrong address': { DATABASE_URL: `mysql://gate:${password}@127.0.0.1/x` },
  }
  const starts = Object.entries(failing).map(async ([name, env]) => {
    const gateway = spawnGateway(t, { NODE_ENV: 'production', NEMO_API_URL: 'http://127.0.0.1:9', ...env })
    t.equal(await gateway.ended, 78, name)
    t.same(findAny(gateway.output(), { password, key }), [], name)
  })
  await Promise.all(starts)
})

t.test('the shared account’s token', async t => {
  const shared = canary()
  const { secrets, admin, sandbox, gateway } = await stage(t, { NEMO_TOKEN: shared })
  secrets.NEMO_TOKEN = shared
  const client = await signIn(gateway.url)
  const told = [JSON.stringify(await client.get('/v1/credits')), JSON.stringify(await client.get('/v1/me'))]
  t.match(told[0], 'upstream_unavailable')
  const id = await client.project()
  const body = `${frame(`It is ${shared}.`)}`
  const { token } = sandbox.state.issueToken()
  sandbox.state.world.accounts.find(account => account.token === token)!.token = shared
  sandbox.faults.add({ on: 'run', answer: 'body', body, contentType: 'text/event-stream' })
  const { run } = await client.post(`/v1/projects/${id}/messages`, { text: 'Say it', intent: 'chat' })
  await until(async () => {
    const found = await client.get(`/v1/runs/${run.id}`)
    told.push(JSON.stringify(found))
    return ['completed', 'failed'].includes(found.state)
  }, 30_000)
  told.push(JSON.stringify(await client.log(id)))
  t.match(told.join(), /It is \[secret\]/)
  t.same(findAny(told.join('\n'), secrets), [], 'the answers')
  t.same(findAny(await dump(admin), secrets), [], 'the database')
  gateway.kill('SIGTERM')
  await gateway.ended
  t.same(findAny(gateway.output(), secrets), [], 'the logs')
})

/** What no HTTP client would send. */
function rawRequest(url: string, request: string): Promise<string> {
  const { hostname, port } = new URL(url)
  return new Promise(resolve => {
    let answer = ''
    const socket = connect(Number(port), hostname, () => socket.write(request))
    socket.on('data', data => {
      answer += data
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(answer))
  })
}
