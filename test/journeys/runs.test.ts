import t, { type Test } from 'tap'
import type { Fault } from '../../sandbox/server.ts'
import { type Client, follow, type Json, runEnded, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { startGateway, until } from '../helpers/gateway.ts'
import { checkRun } from '../helpers/run-story.ts'
import { startSandbox } from '../sandbox/helpers.ts'

const sandbox = await startSandbox(t, {
  speed: { textMs: 40, editMs: 80, generateMs: 150, chunkMs: 2, heartbeatMs: 50 },
})
const gateway = await startGateway(t, {
  DATABASE_URL: await testDatabaseUrl(t),
  NEMO_API_URL: sandbox.url,
  RECONCILE_FIRST_MS: '50',
  RECONCILE_EVERY_MS: '100',
  RECONCILE_READS: '3',
  STREAM_SILENCE_MS: '600',
  STREAM_NOTICE_MS: '150',
})
const TITLE = 'Add a title that says "Hello"'

/** A new guest with a clip. */
async function newProject() {
  const client = await signIn(gateway.url)
  return { client, project: await client.projectWithClip() }
}

async function say(client: Client, project: string, text: string) {
  return client.post(`/v1/projects/${project}/messages`, { text, intent: 'chat' })
}

/** Says something to a new project and waits for the end of the run. */
async function runToEnd(t: Test, text: string, fault?: Fault) {
  const { client, project } = await newProject()
  if (fault) sandbox.faults.add(fault)
  const live = await follow(t, client, project)
  const { run } = await say(client, project, text)
  await live.next(runEnded(run.id))
  live.close()
  const chunks = await checkRun(t, client, project, run.id)
  const sent = sandbox
    .journal()
    .filter(entry => entry.endpoint === 'run' && entry.text === text && entry.at >= Date.parse(run.createdAt))
  return { run: await client.get(`/v1/runs/${run.id}`), chunks, sent: sent.length, client, project }
}

const texts = (chunks: Json[]) =>
  chunks
    .filter(chunk => chunk.type === 'TEXT_MESSAGE_CONTENT')
    .map(chunk => chunk.delta)
    .join('')

t.test('a question is answered', async t => {
  const { run, chunks } = await runToEnd(t, 'What can you do?')
  t.match(run, { state: 'completed', outcome: 'answered', reply: /trim/i })
  t.equal(texts(chunks).trim(), run.reply)
})

t.test('an edit is told in words, without the screen, and as patches', async t => {
  const { run, chunks } = await runToEnd(t, TITLE)
  t.match(run, {
    state: 'completed',
    outcome: 'edited',
    summary: /Title added: “Hello”/,
    credits: { spent: 5 },
  })
  t.notMatch(run.reply, /click|button|panel/i)
  t.ok(chunks.some(chunk => chunk.type === 'STATE_DELTA'))
})

t.test('a reader of the timeline takes no revision away from those who follow the run', async t => {
  const { client, project } = await newProject()
  const live = await follow(t, client, project)
  sandbox.faults.add({ on: 'run', answer: 'silence', frames: 2, ms: 400 })
  const { run } = await say(client, project, TITLE)
  await live.next(entry => entry.runId === run.id && entry.chunk.type === 'RUN_STARTED')
  const before = (await client.get(`/v1/projects/${project}`)).revision
  await until(async () => (await client.get(`/v1/projects/${project}/timeline`)).revision > before)
  t.match(await client.get(`/v1/runs/${run.id}`), { state: 'running' })
  await live.next(runEnded(run.id))
  await checkRun(t, client, project, run.id)
})

t.test('an edit that ends without a word is summed up', async t => {
  const { client, project } = await newProject()
  const live = await follow(t, client, project)
  await say(client, project, TITLE)
  const { run } = await say(client, project, 'Add calm background music')
  await live.next(runEnded(run.id))
  const chunks = await checkRun(t, client, project, run.id)
  t.match(chunks.at(-1), { type: 'RUN_FINISHED', metadata: { silent: true } })
  t.match(texts(chunks), /^Done: Music added/)
  t.match(await client.get(`/v1/runs/${run.id}`), { outcome: 'edited', reply: /^Done: Music added/ })
})

t.test('a stream without a single frame that changed nothing says so', async t => {
  const { run, chunks } = await runToEnd(t, 'What can you do?', { on: 'run', answer: 'no_frames' })
  t.match(run, { state: 'completed', outcome: 'unchanged', reply: 'Nothing changed.' })
  t.match(chunks.at(-1), { metadata: { silent: true } })
})

t.test('an error inside the stream, in each spelling, is told in our words', async t => {
  for (const spelling of ['code', 'error', 'details', 'raw'] as const) {
    const fault = {
      on: 'run',
      answer: 'error_frame',
      frames: 1,
      spelling,
      message: 'secret backend words',
    } as const
    const { run, chunks, sent } = await runToEnd(t, TITLE, fault)
    t.match(run, { state: 'failed', userState: { code: String, message: String } })
    t.equal(chunks.at(-1).type, 'RUN_ERROR')
    t.notMatch(JSON.stringify(chunks), /secret backend words/)
    t.equal(sent, 1)
  }
})

t.test('codes before the stream become user states with a way on', async t => {
  const cases: [Fault, Json][] = [
    [
      { on: 'run', answer: 'code', code: 2001 },
      { code: 'credits_exhausted', action: { kind: 'register', url: /\/register\?bind=anon_/ } },
    ],
    [
      { on: 'run', answer: 'status', status: 402 },
      { code: 'upgrade_required', action: { kind: 'upgrade' } },
    ],
    [
      { on: 'run', answer: 'status', status: 429, retryAfter: 0, times: 2 },
      { code: 'rate_limited', action: { kind: 'wait' } },
    ],
  ]
  for (const [fault, userState] of cases) {
    const { run, chunks } = await runToEnd(t, TITLE, fault)
    t.match(run, { state: 'failed', userState }, userState.code)
    t.match(chunks.at(-1), { type: 'RUN_ERROR', code: userState.code, metadata: { problem: { userState } } })
  }
})

t.test('one rate limit is waited for and not told', async t => {
  const { run } = await runToEnd(t, TITLE, { on: 'run', answer: 'status', status: 429 })
  t.match(run, { state: 'completed', outcome: 'edited' })
})

t.test('a dead token and a lost session are replaced, and the message is sent once', async t => {
  const { client, project } = await newProject()
  sandbox.faults.revokeToken('all')
  sandbox.faults.dropSession('all')
  const live = await follow(t, client, project)
  const { run } = await say(client, project, TITLE)
  await live.next(runEnded(run.id))
  await checkRun(t, client, project, run.id)
  t.match(await client.get(`/v1/runs/${run.id}`), { state: 'completed' })
  const replaced = live.entries.filter(entry => entry.chunk.name === 'project.session_replaced')
  t.equal(replaced.length, 1)
})

t.test('a cut answer is never asked for again: the edit is found by its effect', async t => {
  for (const how of ['fin', 'rst', 'end'] as const) {
    const { run, sent } = await runToEnd(t, TITLE, { on: 'run', answer: 'cut', frames: 1, how })
    t.match(run, { state: 'completed', outcome: 'edited', summary: /Hello/ }, how)
    t.equal(sent, 1)
  }
  const { run, sent } = await runToEnd(t, TITLE, { on: 'run', answer: 'reset' })
  t.match(run, { state: 'completed', outcome: 'edited' })
  t.equal(sent, 1)
})

t.test('a cut answer that changed nothing is an unknown outcome with a way on', async t => {
  const { run, chunks, sent } = await runToEnd(t, 'What can you do?', { on: 'run', answer: 'cut', frames: 1 })
  t.match(run, {
    state: 'failed',
    outcome: 'unknown',
    userState: { code: 'outcome_unknown', action: { kind: 'retry' } },
  })
  t.match(chunks.at(-1), { type: 'RUN_ERROR', code: 'outcome_unknown' })
  t.equal(sent, 1)
})

t.test('heartbeats alone are reported as work, and end as silence', async t => {
  const { run, chunks } = await runToEnd(t, TITLE, { on: 'run', answer: 'heartbeats', everyMs: 50 })
  t.match(chunks.find(chunk => chunk.name === 'run.progress')?.value, {
    elapsedMs: Number,
    note: /Still working/,
  })
  t.match(run, { state: 'completed', outcome: 'edited' })
})

t.test('stopping: queued, running, finished', async t => {
  const { client, project } = await newProject()
  const live = await follow(t, client, project)
  sandbox.faults.add({ on: 'run', answer: 'silence', frames: 1 })
  const { run: first } = await say(client, project, 'What can you do?')
  const { run: second } = await say(client, project, 'Trim the clip to three seconds')
  t.match(await client.post(`/v1/runs/${second.id}/stop`), { state: 'stopped' })
  await live.next(entry => entry.runId === first.id && entry.chunk.type === 'RUN_STARTED')
  t.match(await client.post(`/v1/runs/${first.id}/stop`), { state: 'stopped' })
  await live.next(runEnded(first.id))
  const chunks = await checkRun(t, client, project, first.id)
  t.match(chunks.at(-1), { type: 'RUN_FINISHED', outcome: { type: 'cancelled' } })
  t.match(await client.post(`/v1/runs/${first.id}/stop`), { state: 'stopped' }, 'again changes nothing')

  const { run: third } = await say(client, project, 'Add calm background music')
  await live.next(runEnded(third.id))
  t.match(await client.get(`/v1/runs/${third.id}`), { state: 'completed' }, 'the next one goes on')
  t.notOk(
    sandbox.journal().some(entry => entry.text === 'Trim the clip to three seconds'),
    'the stopped one was never sent',
  )
})

t.test('the queue: in order, ten at most, or not at all', async t => {
  const { client, project } = await newProject()
  const live = await follow(t, client, project)
  // Long enough for all that follows to be said meanwhile.
  sandbox.faults.add({ on: 'run', answer: 'slow', ms: 4_000 })
  const { run } = await say(client, project, 'What can you do? 0')
  await live.next(entry => entry.runId === run.id && entry.chunk.type === 'RUN_STARTED')
  const answers = []
  for (let i = 1; i <= 11; i++) answers.push(await say(client, project, `What can you do? ${i}`))
  t.equal(answers.filter(answer => answer.kind === 'run').length, 10)
  t.match(answers.at(-1), { status: 409, code: 'queue_full' })
  const busy = await client.post(`/v1/projects/${project}/messages`, {
    text: 'now',
    whenBusy: 'reject',
    intent: 'chat',
  })
  t.match(busy, { status: 409, code: 'project_busy' })
  await live.next(runEnded(answers[9].run.id))
  const started = live.entries.filter(entry => entry.chunk.type === 'RUN_STARTED').map(entry => entry.runId)
  t.strictSame(started, [run.id, ...answers.slice(0, 10).map(answer => answer.run.id)])
  const { items } = await client.get(`/v1/projects/${project}/runs?limit=3`)
  t.strictSame(
    items.map((item: Json) => item.id),
    answers
      .slice(7, 10)
      .map(answer => answer.run.id)
      .reverse(),
  )
})

t.test('what a sentence asks for', async t => {
  const { client, project } = await newProject()
  const ask = (text: string) => client.post(`/v1/projects/${project}/messages`, { text })
  const credits = await ask('how many credits do I have left?')
  t.match(credits, { kind: 'credits', credits: { available: 100, links: { register: /bind=anon_/ } } })
  t.equal(credits.http.status, 200)
  t.match(await ask('show me the timeline'), { kind: 'timeline', timeline: { exportable: true } })
  t.match(await ask('I want to upload a file'), { kind: 'upload', maxBytes: 500_000_000 })
  const exported = await ask('导出视频')
  t.match(exported, { kind: 'render', render: { projectId: project } })
  t.equal(exported.http.status, 202)
  const empty = await client.project()
  t.match(await client.post(`/v1/projects/${empty}/messages`, { text: 'export the video' }), {
    status: 409,
    code: 'nothing_to_export',
  })
  t.match(await ask('   '), { status: 400, code: 'invalid_request' })
})

t.test('an export asked for while an edit runs exports the edit', async t => {
  const { client, project } = await newProject()
  const live = await follow(t, client, project)
  const { run } = await say(client, project, TITLE)
  const { render } = await client.post(`/v1/projects/${project}/messages`, { text: 'export the video' })
  await live.next(runEnded(run.id))
  await until(async () => (await client.get(`/v1/renders/${render.id}`)).state === 'completed')
  const { revision } = await client.get(`/v1/projects/${project}/timeline`)
  t.match(await client.get(`/v1/renders/${render.id}`), { revision, stale: false })
})

t.test('the same request, made fifty times at once and again later, starts one run', async t => {
  const { client, project } = await newProject()
  const headers = { 'idempotency-key': 'once' }
  const send = (text: string) =>
    client.post(`/v1/projects/${project}/messages`, { text, intent: 'chat' }, headers)
  const answers = await Promise.all(Array.from({ length: 50 }, () => send('What can you do? once')))
  const codes = new Set(answers.map(answer => answer.kind ?? answer.code))
  t.ok(
    [...codes].every(code => ['run', 'idempotency_in_progress'].includes(code)),
    [...codes].join(),
  )
  const again = await send('What can you do? once')
  t.equal(again.http.headers.get('idempotent-replayed'), 'true')
  t.match(await send('something else'), { status: 422, code: 'idempotency_mismatch' })
  t.equal((await client.get(`/v1/projects/${project}/runs`)).items.length, 1)
})
