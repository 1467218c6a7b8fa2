import { HttpAgent } from '@ag-ui/client'
import { ChatClient, fetchServerSentEvents } from '@tanstack/ai-client'
import { HttpAgent as OldHttpAgent } from 'ag-ui-client-0.0.59'
import t from 'tap'
import { doorOf, readUntil, runInput } from '../helpers/agui-door.ts'
import { testApp } from '../helpers/app.ts'
import { type Json, signIn } from '../helpers/client.ts'
import { until } from '../helpers/gateway.ts'

const { url, sandbox } = await testApp(t, { sandbox: { speed: { textMs: 60, editMs: 80, chunkMs: 10 } } })
const TITLE = 'Add a title that says "Hello"'
const QUESTION = 'What can you do?'

/** A new guest with a clip, at the door. */
async function scene() {
  const client = await signIn(url)
  const project = await client.projectWithClip()
  const runs = async () => (await client.get(`/v1/projects/${project}/runs`)).items as Json[]
  return { client, project, door: doorOf(client), runs }
}

for (const [version, Agent] of [
  ['1.0.0', HttpAgent],
  ['0.0.59', OldHttpAgent as unknown as typeof HttpAgent],
] as const)
  t.test(`@ag-ui/client ${version}`, async t => {
    const { client, project, door, runs } = await scene()
    const agent = new Agent({ url: door.url, threadId: project, headers: door.headers })
    /** Says something; the client's own verifier judges what comes. */
    async function say(text: string) {
      agent.addMessage({ id: crypto.randomUUID(), role: 'user', content: text })
      const told: Json[] = []
      await agent.runAgent(
        { runId: `run of ${text}`.replaceAll(/\W/g, '-') },
        {
          onEvent: ({ event }) => {
            told.push(event)
          },
          onRunFailed: ({ error }) => {
            t.fail(error.message)
          },
        },
      )
      return told
    }

    const edit = await say(TITLE)
    t.match(edit[0], { type: 'RUN_STARTED', runId: 'run-of-Add-a-title-that-says--Hello-' })
    t.equal(edit.at(-1).type, 'RUN_FINISHED')
    const { tracks, revision } = await client.get(`/v1/projects/${project}/timeline`)
    t.match(agent.state, { revision, timeline: { tracks } }, 'its state is the timeline')
    const [run] = await runs()
    t.equal(String(agent.messages.at(-1)!.content).trim(), run.reply)

    for (const text of [
      QUESTION,
      'export the video',
      'how many credits do I have left?',
      'show me the timeline',
    ])
      t.equal((await say(text)).at(-1).type, 'RUN_FINISHED', text)
    t.equal(agent.messages.length, 10, 'each was answered by one message')
    t.match(agent.state, { revision }, 'and the state is as it was')

    sandbox.faults.add({ on: 'run', answer: 'silence', frames: 1 })
    const stopped = say('Add calm background music')
    await until(async () => (await runs())[0].state === 'running')
    await client.post(`/v1/runs/${(await runs())[0].id}/stop`)
    t.match(
      (await stopped).at(-1),
      version === '1.0.0' ? { outcome: { type: 'cancelled' } } : { type: 'RUN_ERROR', code: 'stopped' },
    )

    sandbox.faults.add({ on: 'run', answer: 'code', code: 2001 })
    const failed = await say('Trim the clip to three seconds')
    t.match(failed.at(-1), {
      type: 'RUN_ERROR',
      code: 'credits_exhausted',
      metadata: { problem: { userState: { action: { kind: 'register' } } } },
    })
    const empty = new Agent({ url: door.url, threadId: await client.project(), headers: door.headers })
    empty.addMessage({ id: 'm', role: 'user', content: 'export the video' })
    await t.rejects(empty.runAgent(), /409/, 'a problem is an HTTP error')
  })

/** A TanStack AI chat whose connection a test can cut; counts the requests and keeps the event types. */
function openChat(scene: { project: string; door: { url: string; headers: { authorization: string } } }) {
  const requests: string[] = []
  const types: string[] = []
  let cut = () => {}
  const fetchClient: typeof fetch = async (input, init) => {
    requests.push(`${init?.method} ${new Headers(init?.headers).has('last-event-id') ? 'again' : 'first'}`)
    const abort = new AbortController()
    const signals = [abort.signal, ...(init?.signal ? [init.signal] : [])]
    cut = () => abort.abort(new Error('the network is gone'))
    return fetch(input, { ...init, signal: AbortSignal.any(signals) })
  }
  const errors: Error[] = []
  const chat = new ChatClient({
    threadId: scene.project,
    persistence: true,
    connection: fetchServerSentEvents(scene.door.url, {
      headers: scene.door.headers,
      fetchClient,
      reconnect: { delayMs: 20 },
    }),
    onChunk: chunk => types.push(chunk.type),
    onError: error => errors.push(error),
  })
  const texts = () =>
    chat.getMessages().map(({ role, parts }) => ({
      role,
      text: parts
        .map(part => (part.type === 'text' ? part.content : ''))
        .join('')
        .trim(),
    }))
  return { chat, requests, types, errors, texts, cut: () => cut() }
}

t.test('TanStack AI: a chat that is cut off again and again', async t => {
  const stage = await scene()
  const { chat, requests, types, errors, texts, cut } = openChat(stage)
  t.teardown(() => chat.dispose())
  const said = chat.sendMessage(QUESTION)
  for (let cuts = 0; cuts < 3; cuts++) {
    const seen = types.length
    await until(async () => types.length > seen)
    cut()
  }
  await said
  t.strictSame(errors, [])
  t.equal(requests[0], 'POST first')
  t.ok(requests.length >= 2 && requests.slice(1).every(request => request === 'POST again'), requests.join())
  const [run, ...more] = await stage.runs()
  t.equal(more.length, 0, 'one run')
  t.equal(types.filter(type => type === 'RUN_STARTED').length, 1)
  t.strictSame(texts(), [
    { role: 'user', text: QUESTION },
    { role: 'assistant', text: run.reply },
  ])
  t.equal(chat.getStatus(), 'ready')
})

t.test('TanStack AI: the page is reloaded while a run waits, and while one is at work', async t => {
  const stage = await scene()
  const { client, door, project, runs } = stage
  await client.post(`/v1/projects/${project}/messages`, { text: QUESTION })
  await until(async () => (await runs())[0].state === 'completed')
  const before = (await runs())[0]
  sandbox.faults.add({ on: 'run', answer: 'slow', ms: 500 })
  await readUntil(
    await door.post(runInput(project, 'left-behind', TITLE)),
    chunk => chunk.type === 'RUN_STARTED',
  )

  const pages = [openChat(stage)]
  t.teardown(() => pages.map(({ chat }) => chat.dispose()))
  pages[0]!.chat.attach()
  await until(async () => (await runs())[0].state === 'running')
  pages.push(openChat(stage))
  pages[1]!.chat.attach()
  await until(async () => pages[1]!.types.includes('STATE_SNAPSHOT'))
  pages[1]!.cut()
  await until(async () => pages.every(({ types }) => types.includes('RUN_FINISHED')))
  await until(async () => pages.every(({ chat }) => chat.getStatus() === 'ready'))
  const [run] = await runs()
  for (const { texts, errors, requests } of pages) {
    t.strictSame(errors, [])
    t.ok(
      requests.every(request => request.startsWith('GET')),
      requests.join(),
    )
    t.strictSame(texts(), [
      { role: 'user', text: QUESTION },
      { role: 'assistant', text: before.reply },
      { role: 'user', text: TITLE },
      { role: 'assistant', text: run.reply },
    ])
  }
  t.ok(pages[1]!.requests.includes('GET again'))
  const later = openChat(stage)
  t.teardown(() => later.chat.dispose())
  later.chat.attach()
  await until(async () => later.texts().length === 4)
  t.strictSame(later.texts(), pages[0]!.texts())
  t.equal(later.requests.length, 1, 'nothing to join')
})

t.test('TanStack AI: what is no chat, and what is refused', async t => {
  const stage = await scene()
  const { chat, errors, texts } = openChat(stage)
  t.teardown(() => chat.dispose())
  await chat.sendMessage('export the video')
  await chat.sendMessage('how many credits do I have left?')
  t.match(texts(), [{}, { text: /exported/ }, {}, { text: /100 credits/ }])
  t.strictSame(errors, [])
  const empty = openChat({ ...stage, project: await stage.client.project() })
  t.teardown(() => empty.chat.dispose())
  await empty.chat.sendMessage('export the video')
  t.match(empty.errors[0]?.message, /409/)
})
