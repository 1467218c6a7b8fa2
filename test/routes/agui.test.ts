import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { mock } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { doorOf, readAll, readUntil, runInput, typesOf } from '../helpers/agui-door.ts'
import { logWriter, testApp } from '../helpers/app.ts'
import { type Client, follow, type Json, runEnded, signIn } from '../helpers/client.ts'
import { query } from '../helpers/cluster.ts'
import { until } from '../helpers/gateway.ts'
import { checkRun } from '../helpers/run-story.ts'

const { url, app, sandbox, database } = await testApp(t, { sandbox: { speed: { textMs: 40, editMs: 60 } } })
const write = await logWriter(t, database)
const TITLE = 'Add a title that says "Hello"'
const isType = (type: string) => (chunk: Json) => chunk.type === type

/** A new guest with a clip, at the door. */
async function scene() {
  const client = await signIn(url)
  return { client, door: doorOf(client), project: await client.projectWithClip() }
}

const runsOf = async (client: Client, project: string) =>
  (await client.get(`/v1/projects/${project}/runs`)).items as Json[]

t.test('a run, as the log tells it, under the client’s own name', async t => {
  const { client, door, project } = await scene()
  const events = await readAll(door.post(runInput(project, 'run-1', TITLE)))
  const [run] = await runsOf(client, project)
  t.match(run, { state: 'completed', text: TITLE })
  t.match(events[0]!.chunk, {
    type: 'RUN_STARTED',
    threadId: project,
    runId: 'run-1',
    metadata: { runId: run.id },
  })
  const log = await client.log(project)
  const accepted = log.find(entry => entry.chunk.name === 'message.accepted')
  t.equal(events[0]!.id, accepted.id, 'it begins where the message was accepted')
  const kept = log.filter(entry => entry.runId === run.id).map(entry => entry.chunk)
  t.strictSame(
    events.slice(1, -1).map(({ chunk }) => chunk),
    kept.slice(1, -1),
  )
  t.strictSame(events.at(-1)!.chunk, { ...kept.at(-1), runId: 'run-1' })
  t.equal(new Set(events.map(({ id }) => id)).size, events.length, 'each has an id of its own')
})

t.test('a run is read on from every position, by POST and by GET, and begun once', async t => {
  const { client, door, project } = await scene()
  const input = runInput(project, 'again', 'What can you do?')
  const all = await readAll(door.post(input))
  const chunks = all.map(({ chunk }) => chunk)
  t.ok(all.length > 4)
  t.strictSame(await readAll(door.post(input)), all, 'the same request')
  t.strictSame(await readAll(door.get('runId=again&offset=-1')), all, 'joined from its beginning')
  const [run] = await runsOf(client, project)
  t.strictSame(await readAll(door.get(`runId=${run.id}`)), all, 'by our own name for it')
  for (const [i, { id = '' }] of all.entries()) {
    const rest = chunks.slice(i + 1)
    const reads = await Promise.all([
      readAll(door.post(input, { 'last-event-id': id })),
      readAll(door.get(`runId=again&offset=${id}`)),
      // The address stays that of the first connection.
      readAll(door.get('runId=again&offset=-1', { 'last-event-id': id })),
    ])
    for (const read of reads)
      t.strictSame(
        read.map(({ chunk }) => chunk),
        rest,
        `after ${i}`,
      )
  }
  t.equal((await runsOf(client, project)).length, 1)
})

t.test('a run is left and joined while it is going on', async t => {
  const { client, door, project } = await scene()
  sandbox.faults.add({ on: 'run', answer: 'slow', ms: 400 })
  const input = runInput(project, 'live', TITLE)
  const first = await readUntil(await door.post(input), isType('STATE_SNAPSHOT'))
  const [run] = await runsOf(client, project)
  t.match(run.state, /running|queued/, 'who leaves does not stop it')
  const [rest, whole] = await Promise.all([
    readAll(door.post(input, { 'last-event-id': first.at(-1)!.id! })),
    readAll(door.get('runId=live&offset=-1')),
  ])
  t.strictSame([...first, ...rest], whole)
  t.match(typesOf(rest).at(-1), 'RUN_FINISHED')
})

t.test('fifty at once are one run', async t => {
  const { client, door, project } = await scene()
  const text = 'Add a title that says "Once"'
  const input = runInput(project, 'once', text)
  // As many as one user may read at once.
  const answers = await Promise.all(Array.from({ length: 50 }, () => door.post(input)))
  const served = answers.filter(({ status }) => status === 200)
  t.ok(served.length >= 20)
  t.ok(answers.every(({ status }) => status === 200 || status === 429))
  const stories = await Promise.all(served.map(readAll))
  for (const story of stories) t.strictSame(story, stories[0])
  t.equal((await runsOf(client, project)).length, 1)
  t.equal(sandbox.journal().filter(entry => entry.endpoint === 'run' && entry.text === text).length, 1)
  t.match(await (await door.post(runInput(project, 'once', 'something else'))).json(), {
    status: 422,
    code: 'idempotency_mismatch',
  })
  const other = await client.project()
  const elsewhere = await readAll(door.post(runInput(other, 'once', 'What can you do?')))
  t.match(typesOf(elsewhere).at(-1), 'RUN_FINISHED', 'a name is unique in its project only')
})

t.test('what is no chat is a short run', async t => {
  const { client, door, project } = await scene()
  const ask = (text: string) => door.post(runInput(project, `ask ${text}`.replaceAll(' ', '-'), text))
  const shape = ['RUN_STARTED', 'TEXT_MESSAGE_START', 'TEXT_MESSAGE_CONTENT', 'TEXT_MESSAGE_END']
  const sent = sandbox.journal().filter(entry => entry.endpoint === 'run').length
  const cases = [
    ['export the video', /exported/, [{ name: 'render.updated', value: { projectId: project } }]],
    [
      'how many credits do I have left?',
      /100 credits/,
      [{ name: 'credits.changed', value: { available: 100 } }],
    ],
    [
      'show me the timeline',
      /Timeline/,
      [
        { type: 'STATE_SNAPSHOT', snapshot: { timeline: { exportable: true } } },
        { name: 'project.updated', value: { id: project } },
      ],
    ],
    [
      'I want to upload a file',
      /mp4.*500 MB/,
      [{ name: 'actions', value: [{ kind: 'upload', href: `/v1/projects/${project}/uploads` }] }],
    ],
  ] as const
  for (const [text, reply, news] of cases) {
    const [first, second] = await Promise.all([readAll(ask(text)), readAll(ask(text))])
    t.strictSame(first, second, 'the same request is the same run')
    t.strictSame(typesOf(first).slice(0, 4), shape)
    t.match(first[2]!.chunk.delta, reply)
    t.match(
      first.slice(4, -1).map(({ chunk }) => chunk),
      news,
    )
    t.match(first.at(-1)!.chunk, { type: 'RUN_FINISHED', outcome: { type: 'success' } })
    t.strictSame(await readAll(ask(text)), first)
  }
  t.equal((await client.get(`/v1/renders?projectId=${project}`)).items.length, 1, 'one export')
  t.equal(
    sandbox.journal().filter(entry => entry.endpoint === 'run').length,
    sent,
    'the backend was not asked',
  )
  for (const run of await runsOf(client, project)) await checkRun(t, client, project, run.id)
  const chat = await readAll(
    door.post(runInput(project, 'chat', 'export the video', { forwardedProps: { intent: 'chat' } })),
  )
  t.ok(typesOf(chat).includes('STATE_SNAPSHOT'), 'an app may insist on a chat')
})

t.test('what was said, and the run to join', async t => {
  const { client, door, project } = await scene()
  const history = async (query = '') =>
    (await door.get(`threadId=${project}${query}`)).json() as Promise<Json>
  t.strictSame(await history(), { messages: [], activeRun: null, page: { truncated: false } })
  await readAll(door.post(runInput(project, 'first', 'What can you do?')))
  const live = await follow(t, client, project)
  sandbox.faults.add({ on: 'run', answer: 'slow', ms: 400 })
  const second = (await client.post(`/v1/projects/${project}/messages`, { text: TITLE })).run
  await readUntil(await door.post(runInput(project, 'third', 'What else?')), isType('RUN_STARTED'))
  const during = await history()
  t.match(during.messages, [
    { role: 'user', content: 'What can you do?', parts: [{ type: 'text', content: 'What can you do?' }] },
    { role: 'assistant', content: /trim/i },
    { role: 'user', content: TITLE },
    { role: 'user', content: 'What else?' },
  ])
  t.strictSame(during.activeRun, { runId: second.id }, 'the one at work, however it was begun')
  t.match(typesOf(await readAll(door.get(`runId=${second.id}&offset=-1`))).at(-1), 'RUN_FINISHED')
  t.match(typesOf(await readAll(door.post(runInput(project, second.id, TITLE)))).at(-1), 'RUN_FINISHED')
  t.equal((await runsOf(client, project)).length, 3, 'who posts what is going on begins nothing')
  await until(
    async () => (await history()).activeRun?.runId === 'third' || (await history()).activeRun === null,
  )
  const third = (await runsOf(client, project))[0]
  await live.next(runEnded(third.id))
  const after = await history()
  t.equal(after.activeRun, null)
  t.equal(after.messages.length, 6)

  const page = await history('&limit=2')
  t.strictSame(page.messages, after.messages.slice(2))
  t.equal(page.page.truncated, true)
  t.strictSame(await history(`&before=${page.page.cursor}`), {
    messages: after.messages.slice(0, 2),
    activeRun: null,
    page: { truncated: false },
  })
})

t.test('a stopped run ends in the words of the client’s version', async t => {
  const { client, door, project } = await scene()
  for (const [runId, version, last] of [
    [
      'new',
      { protocolVersion: '1.0' },
      { type: 'RUN_FINISHED', runId: 'new', outcome: { type: 'cancelled' } },
    ],
    ['old', {}, { type: 'RUN_ERROR', code: 'stopped', message: /^Stopped\./ }],
  ] as const) {
    sandbox.faults.add({ on: 'run', answer: 'silence', frames: 1 })
    // A stop that comes too late for an edit would end as what became of it.
    const running = readAll(door.post(runInput(project, runId, 'What can you do?', version)))
    const run = await until(async () =>
      (await runsOf(client, project)).find(({ state }) => state === 'running'),
    )
    const waiting = readAll(door.post(runInput(project, `${runId}-waiting`, 'Trim the clip', version)))
    const [next] = await until(async () => {
      const runs = await runsOf(client, project)
      return runs[0].state === 'queued' && runs
    })
    await client.post(`/v1/runs/${next.id}/stop`)
    const { runId: _, ...sameEnd } = last as Json
    const story = await waiting
    t.strictSame(typesOf(story), ['RUN_STARTED', last.type], 'it never began')
    t.match(story.at(-1)!.chunk, sameEnd)
    await client.post(`/v1/runs/${run.id}/stop`)
    t.match((await running).at(-1)!.chunk, last)
  }
  t.notOk(sandbox.journal().some(entry => entry.text === 'Trim the clip'))
})

t.test('what is refused is refused before the stream, and leaves nothing', async t => {
  const { client, door, project } = await scene()
  const stranger = await signIn(url)
  const foreign = await stranger.project()
  await readAll(doorOf(stranger).post(runInput(foreign, 'theirs', 'What can you do?')))
  const part = (content: unknown) => ({ messages: [{ id: 'm', role: 'user', content }] })
  const image = { type: 'image', source: { type: 'url', value: 'https://example.com/a.png' } }
  const refused: [object, object, Record<string, string>?][] = [
    [runInput(foreign, 'r', TITLE), { status: 404, code: 'not_found' }],
    [runInput('no-id', 'r', TITLE), { status: 404, code: 'not_found' }],
    [runInput('00000000-0000-7000-8000-000000000000', 'r', TITLE), { status: 404 }],
    [runInput(project, '', TITLE), { status: 400, code: 'invalid_request' }],
    [runInput(project, 'x'.repeat(256), TITLE), { status: 400 }],
    [runInput(project, 'r', TITLE, { messages: [] }), { status: 400 }],
    [runInput(project, 'r', TITLE, { messages: [{ role: 'assistant', content: 'x' }] }), { status: 400 }],
    [runInput(project, 'r', ' \n'), { status: 400 }],
    [runInput(project, 'r', 'x'.repeat(20_001)), { status: 400 }],
    [runInput(project, 'r', '', part([{ type: 'text', text: TITLE }, image])), { detail: /uploads/ }],
    [runInput(project, 'r', '', part({ text: TITLE })), { status: 400 }],
    [runInput(project, 'r', TITLE, { forwardedProps: { whenBusy: 'maybe' } }), { status: 400 }],
    [{ threadId: project }, { status: 400 }],
    [
      runInput(project, 'r', 'export the video', { threadId: await client.project() }),
      { code: 'nothing_to_export' },
    ],
    [runInput(project, 'r', TITLE), { status: 404 }, { 'last-event-id': 'of-a-run-that-is-not-known' }],
  ]
  for (const [input, problem, headers] of refused) {
    const answer = await door.post(input, headers)
    t.match(answer.headers.get('content-type'), 'application/problem+json')
    t.match(await answer.json(), problem, JSON.stringify(input).slice(0, 120))
  }
  t.strictSame(await runsOf(client, project), [], 'nothing was begun')

  await readAll(door.post(runInput(project, 'mine', 'What can you do?')))
  const theirs = (await stranger.log(foreign))[0].id
  for (const [query, problem] of [
    ['', { status: 400 }],
    ['threadId=no-id', { status: 404 }],
    [`threadId=${foreign}`, { status: 404 }],
    ['runId=theirs&offset=-1', { status: 404 }],
    ['runId=mine&offset=garbage', { status: 400 }],
    [`runId=mine&offset=${theirs}`, { status: 400, detail: /beginning/ }],
    [`threadId=${project}&limit=0`, { status: 400 }],
  ] as const)
    t.match(await (await door.get(query)).json(), problem, query)
})

t.test('a busy project', async t => {
  const { client, door, project } = await scene()
  sandbox.faults.add({ on: 'run', answer: 'silence', frames: 1 })
  const begin = async (runId: string, more = {}) => {
    const answer = await door.post(runInput(project, runId, 'What can you do?', more))
    if (answer.status !== 200) return answer.json() as Promise<Json>
    await readUntil(answer, isType('RUN_STARTED'))
    return 'begun'
  }
  t.equal(await begin('at-work'), 'begun')
  await until(async () => (await runsOf(client, project))[0].state === 'running')
  t.match(await begin('no', { forwardedProps: { whenBusy: 'reject' } }), {
    status: 409,
    code: 'project_busy',
  })
  for (let i = 0; i < 10; i++) t.equal(await begin(`waits-${i}`), 'begun', 'before its turn has come')
  t.match(await begin('too-many'), { status: 409, code: 'queue_full' })
  t.equal(await begin('waits-3'), 'begun', 'one that is known is no further one')
  for (const run of await runsOf(client, project)) await client.post(`/v1/runs/${run.id}/stop`)
})

t.test('what a run that is too old to be kept has left', async t => {
  const { client, door, project } = await scene()
  const all = await readAll(door.post(runInput(project, 'old', 'What can you do?')))
  const [run] = await runsOf(client, project)
  await query(database, `delete from events where run_id = '${run.id}'`)
  const told = await readAll(door.get('runId=old&offset=-1'))
  t.strictSame(typesOf(told), [
    'RUN_STARTED',
    'TEXT_MESSAGE_START',
    'TEXT_MESSAGE_CONTENT',
    'TEXT_MESSAGE_END',
    'RUN_FINISHED',
  ])
  t.equal(told[2]!.chunk.delta, run.reply)
  t.strictSame(await readAll(door.get(`runId=old&offset=${all.at(-1)!.id}`)), [])
})

t.test('a reader that takes nothing holds up nobody and misses nothing', async t => {
  const { client, door, project } = await scene()
  sandbox.faults.add({ on: 'run', answer: 'silence', frames: 1 })
  const { run } = await client.post(`/v1/projects/${project}/messages`, { text: TITLE, intent: 'chat' })
  const { hostname, port } = new URL(url)
  const slow = connect(Number(port), hostname)
  t.teardown(() => slow.destroy())
  slow.pause()
  slow.write(
    `GET /v1/agui?runId=${run.id}&offset=-1 HTTP/1.0\r\nauthorization: Bearer ${client.token}\r\n\r\n`,
  )
  const quick = readAll(door.get(`runId=${run.id}&offset=-1`))
  await until(async () => (await client.get(`/v1/runs/${run.id}`)).state === 'running')
  for (let i = 0; i < 10; i++) await write(project, 20, 50_000, run.id)
  await client.post(`/v1/runs/${run.id}/stop`)
  const all = await quick
  t.ok(all.length > 200)
  let text = ''
  slow.on('data', bytes => {
    text += bytes
  })
  slow.resume()
  await new Promise(resolve => slow.on('end', resolve))
  const ids = [...text.matchAll(/^id: (.*)$/gm)].map(([, id]) => id)
  t.strictSame(
    ids,
    all.map(({ id }) => id),
  )
})

t.test('a run that has ended waits for its reader, and nothing is said after it', async t => {
  const { client, door, project } = await scene()
  await readAll(door.post(runInput(project, 'long', 'What can you do?')))
  // More than the kernel takes for a reader.
  await query(
    database,
    `update events set chunk = (chunk::jsonb || jsonb_build_object('metadata', repeat('x', 12000000)))::json
     where chunk->>'type' = 'RUN_FINISHED' and project_id = '${project}'`,
  )
  // More than is kept in memory, so that the run is read from the log.
  await write(project, 1, 150_000)
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const { hostname, port } = new URL(url)
  const reader = connect(Number(port), hostname).pause()
  t.teardown(() => reader.destroy())
  const asked = once(app.http.server, 'request')
  reader.write(`GET /v1/agui?runId=long HTTP/1.0\r\nauthorization: Bearer ${client.token}\r\n\r\n`)
  const [, answer] = (await asked) as [unknown, ServerResponse]
  while (!answer.writableEnded) await turn()
  t.notOk(answer.writableFinished)
  for (let comments = 0; comments < 3; comments++) {
    mock.timers.tick(15_000)
    await turn()
  }
  let text = ''
  for await (const bytes of reader) text = (text + bytes).slice(-1_000)
  t.match(text, /xxx".*}\n\n$/)
})

t.test('signing out ends the reading, not the run', async t => {
  const { client, door, project } = await scene()
  sandbox.faults.add({ on: 'run', answer: 'slow', ms: 3_000 })
  const answer = await door.post(runInput(project, 'left', TITLE))
  const events = readAll(answer).then(
    () => 'ended',
    () => 'cut',
  )
  await until(async () => (await runsOf(client, project))[0].state === 'running')
  await client.remove('/v1/auth/session')
  t.equal(await events, 'cut')
  t.equal((await door.post(runInput(project, 'more', TITLE))).status, 401)
})
