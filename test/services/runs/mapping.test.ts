import t, { type Test } from 'tap'
import type { Fault } from '../../../sandbox/server.ts'
import { updateRun } from '../../../src/db/runs.ts'
import { type Json, QUESTION, setStage, TITLE, textOf } from './stage.ts'

// From the backend's frames to the log: each row of the table in docs/upstream.md.

type Options = Parameters<typeof setStage>[1]

const LIMITS = { noticeMs: 60, silenceMs: 400 }
let shared: ReturnType<typeof setStage> | null = null

/**
 * Says something to a new project with a clip, while the upstream misbehaves, and works on it to the end. With
 * options on a stage of its own, else on one for the whole file.
 */
async function play(test: Test, text: string, fault?: Fault, options?: Options) {
  shared ??= setStage(t, { limits: LIMITS })
  const stage = await (options ? setStage(test, options) : shared)
  await stage.newProject()
  await stage.openSession()
  stage.sandbox.state.setCredits('all', 100)
  if (fault) stage.sandbox.faults.add(fault)
  const run = await stage.say(text)
  const before = stage.sent(text)
  await stage.work(run.id)
  const entries = await stage.entries()
  const row = await stage.row(run.id)
  const sent = stage.sent(text) - before
  return { stage, row, entries, sent, chunks: await stage.story(run.id) }
}

const custom = (chunks: Json[], name: string): Json[] =>
  chunks.filter(chunk => chunk.type === 'CUSTOM' && chunk.name === name).map(({ value }) => value)
const runStates = (entries: Json[]): string[] =>
  custom(
    entries.map(({ chunk }) => chunk),
    'run.state',
  ).map(({ state }) => state)

t.test('message accepted → message.accepted; at its turn RUN_STARTED and STATE_SNAPSHOT', async t => {
  const { entries, row, chunks } = await play(t, TITLE)
  const told = entries.filter(entry => !entry.runId).map(({ chunk }) => chunk)
  t.match(custom(told, 'message.accepted'), [{ runId: row.id, text: TITLE, intent: 'chat' }])
  t.match(chunks.slice(0, 2), [
    { type: 'RUN_STARTED', runId: row.id },
    {
      type: 'STATE_SNAPSHOT',
      snapshot: {
        revision: Number,
        timeline: { tracks: Array },
        media: [{ name: 'holiday.mp4', kind: 'video' }],
      },
    },
  ])
  t.notMatch(JSON.stringify(chunks), /https?:/, 'media come without the backend’s links')
  t.same(runStates(entries), ['queued', 'running', 'completed'])
})

t.test(
  'partial text → held until a sentence is complete; the whole text after it → only what is new',
  async t => {
    const { chunks } = await play(t, QUESTION)
    const deltas = chunks.filter(({ type }) => type === 'TEXT_MESSAGE_CONTENT').map(({ delta }) => delta)
    for (const delta of deltas) t.match(delta, /[.?!]\s*$/, 'whole sentences')
    t.equal(textOf(chunks).match(/I can trim clips/g)?.length, 1, 'told once')
    t.equal(chunks.filter(({ type }) => type === 'TEXT_MESSAGE_END').length, 1)
  },
)

t.test('text that speaks of the screen → stripped; CUSTOM actions offers what it meant', async t => {
  const { chunks, stage } = await play(t, TITLE)
  t.notMatch(textOf(chunks), /panel|click|button/i)
  t.match(textOf(chunks), /I added the title “Hello”/)
  const href = `/v1/projects/${stage.projectId}`
  t.match(custom(chunks, 'actions').flat(), [
    { kind: 'timeline', label: String, method: 'GET', href: `${href}/timeline` },
    { kind: 'export', label: String, method: 'POST', href: `${href}/renders`, body: {} },
  ])
})

t.test(
  'tool call, tool result → nothing but the phase of run.progress; silence → run.progress with a note',
  async t => {
    const fault: Fault = { on: 'run', answer: 'heartbeats', frames: 2, everyMs: 20, ms: 300 }
    const { chunks } = await play(t, TITLE, fault)
    const progress = custom(chunks, 'run.progress')
    t.match(progress[0], { phase: 'editing', elapsedMs: Number, note: /Still working/ })
    t.ok(progress.length >= 2, 'again and again')
    t.ok(progress.every(({ elapsedMs }, i) => i === 0 || elapsedMs > progress[i - 1].elapsedMs))
    t.notMatch(JSON.stringify(chunks), /edit_multitrack|TOOL_CALL|function/i)
  },
)

t.test('state changed → STATE_DELTA that begins with test /revision', async t => {
  const { chunks } = await play(t, TITLE)
  const revision = chunks[1].snapshot.revision
  const delta = chunks.find(({ type }) => type === 'STATE_DELTA').delta
  t.match(delta[0], { op: 'test', path: '/revision', value: revision })
  t.match(delta, [{}, { path: '/revision', value: revision + 1 }])
})

t.test('end without any text → one message that says what changed; metadata.silent', async t => {
  const { chunks, row } = await play(t, TITLE, { on: 'run', answer: 'no_frames' })
  t.equal(textOf(chunks), 'Done: Title added: “Hello” (0-3s)')
  t.match(chunks.at(-1), { type: 'RUN_FINISHED', metadata: { silent: true } })
  t.match(row, { outcome: 'edited', summary: 'Title added: “Hello” (0-3s)' })
})

t.test('end without any text or change → a message that says so', async t => {
  const { chunks, row } = await play(t, QUESTION, { on: 'run', answer: 'no_frames' })
  t.equal(textOf(chunks), 'Nothing changed.')
  t.match(row, { outcome: 'unchanged' })
})

t.test('trailing “I encountered a temporary issue” → dropped after normal text', async t => {
  const { chunks, row } = await play(t, QUESTION, { on: 'run', answer: 'trailing_issue' })
  t.notMatch(JSON.stringify(chunks), /temporary issue/)
  t.match(row, { state: 'completed', outcome: 'answered' })
})

t.test('“I encountered a temporary issue” alone → an error, unless the state tells of an edit', async t => {
  for (const text of [QUESTION, TITLE]) {
    const issue: Fault = { on: 'run', answer: 'trailing_issue' }
    const { chunks, row } = await play(t, text, issue, {
      upstream: real => ({
        ...real,
        async run(...call) {
          const answer = await real.run(...call)
          if (answer.kind !== 'ok') return answer
          return { kind: 'ok', value: { meanings: onlyTheIssue(answer.value.meanings) } }
        },
      }),
    })
    t.notMatch(JSON.stringify(chunks), /temporary issue/)
    if (text === QUESTION) t.match(row, { state: 'failed', problem: { code: 'upstream_unavailable' } })
    else t.match(row, { state: 'completed', outcome: 'edited', reply: /^Done: Title added/ })
  }
})

async function* onlyTheIssue<T extends { kind: string; text?: string }>(meanings: AsyncIterable<T>) {
  for await (const meaning of meanings)
    if (meaning.kind !== 'text' || /temporary issue/.test(meaning.text ?? '')) yield meaning
}

t.test('clean end → RUN_FINISHED, credits before and after, credits.changed', async t => {
  const { chunks, row, entries, stage } = await play(t, TITLE)
  t.match(chunks.at(-1), { type: 'RUN_FINISHED', outcome: { type: 'success' } })
  t.match(row, { creditsBefore: 100, creditsAfter: 95 })
  t.match(await stage.runs.get(stage.alice.userId, row.id), { credits: { before: 100, after: 95, spent: 5 } })
  const told = entries.map(({ chunk }) => chunk)
  t.match(custom(told, 'credits.changed'), [{ available: 95, frozen: 0, total: 95 }])
})

t.test('error → message closed, RUN_ERROR with a problem code and our own words', async t => {
  const spellings = ['code', 'error', 'details', 'raw'] as const
  for (const spelling of spellings) {
    const fault: Fault = {
      on: 'run',
      answer: 'error_frame',
      frames: 8,
      spelling,
      code: 'INTERNAL',
      message: 'secret "words"\nof theirs',
    }
    const { chunks } = await play(t, QUESTION, fault)
    t.match(chunks.at(-2), { type: 'TEXT_MESSAGE_END' }, spelling)
    t.match(chunks.at(-1), { type: 'RUN_ERROR', code: 'upstream_unavailable', message: /cannot be reached/ })
    t.notMatch(JSON.stringify(chunks), /secret/)
  }
})

t.test('the codes of an error frame', async t => {
  const codes: [string, string][] = [
    ['SAFETY', 'content_filtered'],
    ['RECITATION', 'content_filtered'],
    ['RESOURCE_EXHAUSTED', 'rate_limited'],
    ['2001', 'credits_exhausted'],
    ['402', 'upgrade_required'],
  ]
  for (const [code, problem] of codes) {
    const { chunks } = await play(t, QUESTION, { on: 'run', answer: 'error_frame', spelling: 'code', code })
    t.match(chunks.at(-1), {
      type: 'RUN_ERROR',
      code: problem,
      metadata: { problem: { userState: { code: problem } } },
    })
  }
})

t.test('MAX_TOKENS → metadata.truncated', async t => {
  const fault: Fault = { on: 'run', answer: 'error_frame', frames: 6, spelling: 'code', code: 'MAX_TOKENS' }
  const { chunks } = await play(t, QUESTION, fault)
  t.match(chunks.at(-1), { type: 'RUN_FINISHED', metadata: { truncated: true } })
})

t.test(
  'cut, silence, limit → reconciling; the state is read, and the end told, without a second send',
  async t => {
    const faults: [Fault, Options?][] = [
      [{ on: 'run', answer: 'cut', frames: 1, how: 'rst' }],
      [{ on: 'run', answer: 'cut', frames: 1, how: 'end' }],
      [{ on: 'run', answer: 'silence', frames: 1 }],
      [{ on: 'run', answer: 'heartbeats', frames: 1, everyMs: 30 }],
      [{ on: 'run', answer: 'silence', frames: 1 }, { limits: { limitMs: 300 } }],
    ]
    for (const [fault, options] of faults)
      for (const text of [TITLE, QUESTION]) {
        const { row, entries, chunks, sent } = await play(t, text, { ...fault }, options)
        t.same(runStates(entries).slice(0, 3), ['queued', 'running', 'reconciling'], JSON.stringify(fault))
        t.equal(sent, 1)
        if (text === TITLE) t.match(row, { state: 'completed', outcome: 'edited' })
        else
          t.match(chunks.at(-1), {
            type: 'RUN_ERROR',
            code: 'outcome_unknown',
            metadata: { problem: { userState: { action: { kind: 'retry' } } } },
          })
      }
  },
)

t.test('2001, 402, 403, 429 before the stream → RUN_ERROR and userState', async t => {
  const answers: [Fault, string, string][] = [
    [{ on: 'run', answer: 'code', code: 2001 }, 'credits_exhausted', 'register'],
    [{ on: 'run', answer: 'status', status: 402 }, 'upgrade_required', 'upgrade'],
    [{ on: 'run', answer: 'status', status: 403 }, 'upgrade_required', 'upgrade'],
    [{ on: 'run', answer: 'status', status: 429, retryAfter: 600 }, 'rate_limited', 'wait'],
  ]
  for (const [fault, code, kind] of answers) {
    const { chunks, row, stage } = await play(t, TITLE, fault)
    t.match(chunks.at(-1), {
      type: 'RUN_ERROR',
      code,
      metadata: { problem: { userState: { action: { kind } } } },
    })
    t.match(row, { state: 'failed', delivery: 'not_sent' })
    t.match(await stage.runs.get(stage.alice.userId, row.id), { userState: { code, action: { kind } } })
  }
})

t.test('a stopped run → RUN_FINISHED with outcome cancelled', async t => {
  const stage = await setStage(t)
  await stage.openSession()
  stage.sandbox.faults.add({ on: 'run', answer: 'silence', frames: 40 })
  const run = await stage.say(QUESTION)
  const done = stage.work(run.id)
  await stage.until(run.id, chunk => chunk.type === 'TEXT_MESSAGE_CONTENT')
  await updateRun(stage.db, run.id, { stopRequestedAt: new Date() })
  await done
  t.match((await stage.story(run.id)).at(-1), { type: 'RUN_FINISHED', outcome: { type: 'cancelled' } })
})
