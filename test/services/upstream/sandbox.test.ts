import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { createSandbox, type Fault } from '../../../sandbox/server.ts'
import type { Outcome } from '../../../src/services/upstream/failures.ts'
import type { Meaning } from '../../../src/services/upstream/frames.ts'
import type { RunOptions } from '../../../src/services/upstream/run.ts'
import { createTextAssembler } from '../../../src/services/upstream/text.ts'
import { createClient } from './origin.ts'

const speed = { textMs: 20, editMs: 20, generateMs: 60, renderMs: 60, chunkMs: 1, heartbeatMs: 1000 }
const { signal } = new AbortController()

function value<T>(outcome: Outcome<T>): T {
  if (outcome.kind !== 'ok') throw new Error(JSON.stringify(outcome))
  return outcome.value
}

async function setup(t: { teardown(work: () => unknown): void }, options: Partial<RunOptions> = {}) {
  const sandbox = await createSandbox({ speed, bodyCase: options.bodyCase ?? 'snake' })
  t.teardown(() => sandbox.close())
  const client = createClient(t, sandbox.url, options)
  const { token } = value(await client.mintToken({ clientId: crypto.randomUUID(), platform: 'web' }))
  const alice = { token, platform: 'web' }
  const { sessionId, taskId } = value(await client.createSession(alice, { name: 'project', language: 'en' }))
  /** The visible text and all other meanings of one message. */
  const say = async (text: string) => {
    const { meanings } = value(await client.run(alice, { sessionId, text, signal }))
    const assembler = createTextAssembler()
    const rest: Meaning[] = []
    let shown = ''
    for await (const meaning of meanings) {
      if (meaning.kind === 'text') shown += assembler.push(meaning.text, meaning.partial)
      else if (meaning.kind !== 'heartbeat') rest.push(meaning)
    }
    return { text: shown + assembler.finish(), rest }
  }
  return { sandbox, client, alice, sessionId, taskId, say }
}

t.test('from nothing to a finished file', async t => {
  const { client, alice, sessionId, taskId, say } = await setup(t)
  t.match(value(await client.claimLink(alice, { taskId, sessionId })).url, /\/workspace\/claim\?ct=clm_/)
  t.match(value(await client.credits(alice)), { available: 100, frozen: 0, total: 100 })
  const empty = value(await client.state(alice, { sessionId }))
  t.match(empty, { draft: null, media: [] })
  const urls = ['https://files.example/beach.mp4']
  t.match(value(await client.uploadUrls(alice, { sessionId, urls })).media, [
    { name: 'beach.mp4', kind: 'video' },
  ])

  const run = await say('Generate a city timelapse')
  t.match(run.text, /Your video is ready!/)
  t.same(run.rest.at(-1), { kind: 'end' })
  const full = value(await client.state(alice, { sessionId }))
  t.not(full.fingerprint, empty.fingerprint)
  t.equal(value(await client.state(alice, { sessionId })).fingerprint, full.fingerprint)

  const render = { id: 'render_1', sessionId, draft: full.draft ?? '', format: 'mp4', quality: 'high' }
  t.equal(value(await client.submitRender(alice, render)).status, 'pending')
  t.same(await client.submitRender(alice, render), { kind: 'duplicate' })
  t.same(await client.render(alice, { id: 'render_2' }), { kind: 'not_found' })
  let state = value(await client.render(alice, { id: 'render_1' }))
  while (state.status !== 'completed') {
    await new Promise(resolve => setTimeout(resolve, 20))
    state = value(await client.render(alice, { id: 'render_1' }))
  }
  for (const url of [state.url, null]) {
    const file = value(
      await client.openFile(alice, {
        id: 'render_1',
        url,
        range: null,
        ifRange: null,
        ifNoneMatch: null,
        signal,
      }),
    )
    t.equal((await buffer(file.body)).length, state.bytes)
    const left = value(
      await client.openFile(alice, {
        id: 'render_1',
        url,
        range: 'bytes=0-9',
        ifRange: null,
        ifNoneMatch: null,
        signal,
      }),
    )
    t.match(left, { status: 206, bytes: 10 })
    left.body.destroy()
  }
})

t.test('whatever way the answer is sent, the same is shown', async t => {
  const shown = new Set<string>()
  const ways: (Fault | null)[] = [
    null,
    { on: 'run', answer: 'framing', framing: 'crlf' },
    { on: 'run', answer: 'framing', framing: 'cr' },
    { on: 'run', answer: 'framing', framing: 'bom' },
    { on: 'run', answer: 'shape', shape: 'typed' },
    { on: 'run', answer: 'shape', shape: 'bare' },
    { on: 'run', answer: 'repeat_ids' },
    { on: 'run', answer: 'trailing_issue' },
    { on: 'run', answer: 'bad_frame', frames: 1 },
  ]
  const dialects: Partial<RunOptions>[] = [{}, { streaming: false }, { bodyCase: 'camel' }]
  for (const options of dialects) {
    const { sandbox, say } = await setup(t, options)
    for (const way of ways) {
      if (way !== null) sandbox.faults.add(way)
      const run = await say('What can you do?')
      t.same(run.rest.at(-1), { kind: 'end' }, JSON.stringify(way))
      shown.add(run.text.trim())
    }
  }
  t.equal(shown.size, 1, JSON.stringify([...shown]))
})

t.test('what ends a run badly', async t => {
  const { sandbox, say } = await setup(t)
  const unavailable = { kind: 'error', code: 'upstream_unavailable' }
  const table: [Fault, object[]][] = [
    [{ on: 'run', answer: 'cut', how: 'fin' }, [{ kind: 'cut', cause: 'socket' }]],
    [{ on: 'run', answer: 'cut', how: 'rst' }, [{ kind: 'cut', cause: 'socket' }]],
    [{ on: 'run', answer: 'cut', how: 'end' }, [{ kind: 'cut', cause: 'socket' }]],
    [{ on: 'run', answer: 'huge_frame', bytes: 17 << 20 }, [{ kind: 'cut', cause: 'protocol' }]],
    [{ on: 'run', answer: 'no_frames' }, [{ kind: 'end' }]],
    [
      { on: 'run', answer: 'error_frame', spelling: 'code', code: 'SAFETY' },
      [{ kind: 'error', code: 'content_filtered' }, { kind: 'end' }],
    ],
    [{ on: 'run', answer: 'error_frame', spelling: 'error' }, [unavailable, { kind: 'end' }]],
    [{ on: 'run', answer: 'error_frame', spelling: 'details' }, [unavailable, { kind: 'end' }]],
    [{ on: 'run', answer: 'error_frame', spelling: 'raw' }, [unavailable, { kind: 'end' }]],
  ]
  for (const [fault, expected] of table) {
    sandbox.faults.add(fault)
    const run = await say('What can you do?')
    t.same(run.rest, expected, JSON.stringify(fault))
  }
  const runs = sandbox.journal().filter(entry => JSON.stringify(entry).includes('run_sse'))
  t.equal(runs.length, table.length, 'each message was sent once')
})

t.test('silence and mere heartbeats end a run', async t => {
  const { sandbox, say } = await setup(t, { limits: { runMs: 20_000, silenceMs: 200 } })
  for (const fault of [{ answer: 'silence' }, { answer: 'heartbeats', everyMs: 20 }] as const) {
    sandbox.faults.add({ on: 'run', ...fault })
    t.same((await say('What can you do?')).rest, [{ kind: 'cut', cause: 'silence' }], fault.answer)
  }
})

t.test('a token and a session that died', async t => {
  const { sandbox, client, alice, sessionId } = await setup(t)
  sandbox.faults.dropSession('all')
  t.same(await client.state(alice, { sessionId }), { kind: 'session' })
  t.same(await client.run(alice, { sessionId, text: 'x', signal }), { kind: 'session' })
  sandbox.faults.revokeToken('all')
  t.same(await client.credits(alice), { kind: 'auth' })
  t.same(await client.run(alice, { sessionId, text: 'x', signal }), { kind: 'auth' })
})
