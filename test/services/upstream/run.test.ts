import { readFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import t from 'tap'
import type { Meaning } from '../../../src/services/upstream/frames.ts'
import type { RunOptions } from '../../../src/services/upstream/run.ts'
import { alice, closedPort, createClient, json, startJournal } from './origin.ts'

const fixture = (name: string) => readFileSync(new URL(`../../fixtures/adk/${name}`, import.meta.url))
const text = (said: string) => ({ kind: 'text', text: said, partial: true })

async function setup(
  t: { teardown(work: () => unknown): void },
  answer: (response: ServerResponse) => void,
  options: Partial<RunOptions> = {},
) {
  const origin = await startJournal(t, (_, response) => answer(response))
  const client = createClient(t, origin.url, options)
  const say = (signal = new AbortController().signal) =>
    client.run(alice, { sessionId: 's1', text: 'Trim it', signal })
  const tell = async (signal?: AbortSignal) => {
    const outcome = await say(signal)
    if (outcome.kind !== 'ok') throw new Error(outcome.kind)
    const meanings: Meaning[] = []
    for await (const meaning of outcome.value.meanings) meanings.push(meaning)
    return meanings
  }
  return { origin, say, tell }
}

const stream = (response: ServerResponse) =>
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })

t.test('the body in both spellings, with streaming and without', async t => {
  const bodies = [
    [
      {},
      {
        app_name: 'nemo_agent',
        user_id: 'me',
        session_id: 's1',
        new_message: { parts: [{ text: 'Trim it' }] },
        streaming: true,
      },
    ],
    [
      { streaming: false },
      {
        app_name: 'nemo_agent',
        user_id: 'me',
        session_id: 's1',
        new_message: { parts: [{ text: 'Trim it' }] },
      },
    ],
    [
      { bodyCase: 'camel' },
      {
        appName: 'nemo_agent',
        userId: 'me',
        sessionId: 's1',
        newMessage: { parts: [{ text: 'Trim it' }] },
        streaming: true,
      },
    ],
  ] as const
  for (const [options, body] of bodies) {
    const { origin, tell } = await setup(t, response => stream(response).end(), options)
    t.same(await tell(), [{ kind: 'end' }], 'a run without a frame')
    const [heard] = origin.journal
    t.same(JSON.parse(heard?.body ?? ''), body)
    t.match(heard, {
      method: 'POST',
      url: '/run_sse',
      headers: { accept: 'text/event-stream', authorization: 'Bearer nmv_usr_alice' },
    })
  }
})

t.test('a recorded run; partial texts that arrive together are told together', async t => {
  const { tell } = await setup(t, response => stream(response).end(fixture('tool.streaming-true.sse')))
  const meanings = await tell()
  t.same(
    meanings.map(({ kind }) => kind),
    ['tool', 'tool', 'text', 'text', 'end'],
  )
})

t.test('each meaning is given out before the next frame is sent', async t => {
  let response: ServerResponse | undefined
  const { say } = await setup(t, opened => {
    response = opened
    stream(opened).write('data: {"text":"one"}\n\n')
  })
  const outcome = await say()
  if (outcome.kind !== 'ok') throw new Error(outcome.kind)
  const meanings = outcome.value.meanings[Symbol.asyncIterator]()
  t.same((await meanings.next()).value, text('one'))
  response?.write(': ping\n\n')
  t.same((await meanings.next()).value, { kind: 'heartbeat' })
  response?.end('data: {"text":"two"}\n\n')
  t.same((await meanings.next()).value, text('two'))
  t.same((await meanings.next()).value, { kind: 'end' })
  t.same(await meanings.next(), { value: undefined, done: true })
})

t.test('a stream that breaks off', async t => {
  const reset = await setup(t, response =>
    stream(response).write('data: {"text":"a"}\n\ndata: {"te', () => response.destroy()),
  )
  t.same(await reset.tell(), [text('a'), { kind: 'cut', cause: 'socket' }])
  t.equal(reset.origin.journal.length, 1, 'and the message is not sent again')

  const unfinished = await setup(t, response => stream(response).end(fixture('cut-inside-a-frame.sse')))
  t.same(
    await unfinished.tell(),
    [text('Trimming '), { kind: 'cut', cause: 'socket' }],
    'a clean end inside a frame',
  )
})

t.test('silence: no bytes, or heartbeats only', async t => {
  const limits = { runMs: 20_000, silenceMs: 150 }
  const quiet = await setup(t, response => stream(response).write('data: {"text":"a"}\n\n'), { limits })
  t.same(await quiet.tell(), [text('a'), { kind: 'cut', cause: 'silence' }])

  const beating = await setup(
    t,
    response => {
      stream(response).write(': ping\n\ndata:\n\n')
      const timer = setInterval(() => response.write('data: {"type":"heartbeat"}\n\n: ping\n\n'), 20)
      response.on('close', () => clearInterval(timer))
    },
    { limits },
  )
  const meanings = await beating.tell()
  t.same(meanings.at(-1), { kind: 'cut', cause: 'silence' })
  t.ok(meanings.length > 3 && meanings.slice(0, -1).every(({ kind }) => kind === 'heartbeat'))
})

t.test('frames that say something keep a run alive beyond the silence limit', async t => {
  let frames = 0
  const { tell } = await setup(
    t,
    response => {
      stream(response)
      const timer = setInterval(() => {
        response.write('data: {"text":"a"}\n\n')
        if (++frames < 20) return
        clearInterval(timer)
        response.end()
      }, 40)
    },
    { limits: { runMs: 20_000, silenceMs: 600 } },
  )
  t.equal((await tell()).at(-1)?.kind, 'end')
})

t.test('a slow reader of ours is not silence', async t => {
  const { say } = await setup(
    t,
    response => stream(response).end('data: {"text":"a"}\n\ndata: {"type":"tool_call","content":"b"}\n\n'),
    {
      limits: { runMs: 20_000, silenceMs: 200 },
    },
  )
  const outcome = await say()
  if (outcome.kind !== 'ok') throw new Error(outcome.kind)
  const kinds: string[] = []
  for await (const meaning of outcome.value.meanings) {
    kinds.push(meaning.kind)
    await new Promise(resolve => setTimeout(resolve, 250))
  }
  t.same(kinds, ['text', 'tool', 'end'])
})

t.test('the limit of the whole run', async t => {
  const busy = await setup(
    t,
    response => {
      stream(response)
      const timer = setInterval(() => response.write('data: {"text":"a"}\n\n'), 20)
      response.on('close', () => clearInterval(timer))
    },
    { limits: { runMs: 400, silenceMs: 10_000 } },
  )
  t.same((await busy.tell()).at(-1), { kind: 'cut', cause: 'limit' })

  const deaf = await setup(t, () => {}, { limits: { runMs: 400, silenceMs: 10_000 } })
  t.same(await deaf.say(), { kind: 'transient', delivered: 'unknown', cause: 'timeout' })
})

t.test('a frame that never ends', async t => {
  const { tell } = await setup(t, response => {
    stream(response).write('data: {"text":"a"}\n\ndata: ')
    const piece = Buffer.alloc(1 << 20, 'x')
    const pour = () => {
      while (!response.destroyed && response.write(piece));
    }
    response.on('drain', pour)
    pour()
  })
  t.same(await tell(), [text('a'), { kind: 'cut', cause: 'protocol' }])
})

t.test('a stop from our side, and a reader that leaves', async t => {
  const controller = new AbortController()
  const { origin, say } = await setup(t, response => stream(response).write('data: {"text":"a"}\n\n'))
  const stopped = await say(controller.signal)
  if (stopped.kind !== 'ok') throw new Error(stopped.kind)
  const kinds: string[] = []
  for await (const meaning of stopped.value.meanings) {
    kinds.push(meaning.kind)
    controller.abort()
  }
  t.same(kinds, ['text', 'cut'])

  const left = await say()
  if (left.kind !== 'ok') throw new Error(left.kind)
  for await (const _ of left.value.meanings) break
  t.same(await say(AbortSignal.abort()), { kind: 'aborted' })
  await new Promise<void>(resolve => {
    const look = () =>
      origin.server.getConnections((_, count) => (count === 0 ? resolve() : setImmediate(look)))
    look()
  })
  t.pass('no connection is left behind')
})

t.test('answers before the stream', async t => {
  const table: [(response: ServerResponse) => void, object][] = [
    [response => json(response, 404, fixture('missing-session.body.json').toString()), { kind: 'session' }],
    [response => json(response, 404, { detail: 'Session not found' }), { kind: 'session' }],
    [response => json(response, 200, { code: 1002 }), { kind: 'session' }],
    [response => json(response, 200, { code: 1001 }), { kind: 'auth' }],
    [response => json(response, 200, { code: 2001 }), { kind: 'refused', code: 'credits_exhausted' }],
    [response => json(response, 429, {}), { kind: 'rate_limited', retryAfterMs: null }],
    [response => json(response, 200, { code: 0, data: {} }), { kind: 'protocol', delivered: 'unknown' }],
    [response => json(response, 422, { detail: [] }), { kind: 'rejected', status: 422, code: null }],
    [
      response => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
      { kind: 'protocol', delivered: 'unknown' },
    ],
    [
      response => response.writeHead(400, { 'content-type': 'text/html' }).end('<pre>stack'),
      { kind: 'rejected', status: 400, code: null },
    ],
    [
      response => response.writeHead(302, { location: '/x' }).end(),
      { kind: 'protocol', delivered: 'unknown' },
    ],
    [
      response =>
        response.writeHead(200, { 'content-type': 'text/event-stream', 'content-encoding': 'gzip' }).end('x'),
      { kind: 'protocol', delivered: 'unknown' },
    ],
    [response => response.destroy(), { kind: 'transient', delivered: 'unknown', cause: 'unavailable' }],
  ]
  for (const [answer, expected] of table) {
    const { origin, say } = await setup(t, answer)
    t.same(await say(), expected, answer.toString())
    t.equal(origin.journal.length, 1, 'sent once')
  }
  const nobody = createClient(t, await closedPort())
  const refused = await nobody.run(alice, { sessionId: 's', text: 'x', signal: new AbortController().signal })
  t.same(refused, { kind: 'transient', delivered: 'no', cause: 'unavailable' })
})

t.test('closing the client ends its runs', async t => {
  const origin = await startJournal(t, (_, response) => stream(response).write('data: {"text":"a"}\n\n'))
  const client = createClient(t, origin.url)
  const outcome = await client.run(alice, { sessionId: 's', text: 'x', signal: new AbortController().signal })
  if (outcome.kind !== 'ok') throw new Error(outcome.kind)
  const kinds: string[] = []
  for await (const meaning of outcome.value.meanings) {
    kinds.push(meaning.kind)
    void client.close()
  }
  t.same(kinds, ['text', 'cut'])
})
