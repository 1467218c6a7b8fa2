import { PassThrough } from 'node:stream'
import t from 'tap'
import type { Chunk, Entry } from '../../demo/api.ts'
import { createTerminal } from '../../demo/terminal.ts'
import { createView, endOf } from '../../demo/view.ts'

const entry = (seq: number, chunk: object): Entry => ({
  id: `c${seq}`,
  seq,
  runId: 'r1',
  chunk: chunk as Chunk,
})
const started = { type: 'RUN_STARTED' }
const snapshot = { type: 'STATE_SNAPSHOT', snapshot: { revision: 1, timeline: { tracks: [] }, media: [] } }

function watchFrom(seq: number | null) {
  const out = new PassThrough()
  const terminal = createTerminal(out as unknown as NodeJS.WriteStream, {})
  return { view: createView({ cursor: 'c0', seq }, terminal), told: () => String(out.read() ?? '') }
}

t.test('an entry in its place moves the position; a gap or a duplicate is an error', async t => {
  const { view } = watchFrom(4)
  view.take(entry(5, started))
  t.strictSame(view.position(), { cursor: 'c5', seq: 5 })
  t.throws(() => view.take(entry(7, started)), { message: /a gap in the log: seq 7 came after seq 5/ })
  t.throws(() => view.take(entry(5, started)), { message: /a duplicate in the log/ })
  t.strictSame(view.position(), { cursor: 'c5', seq: 5 }, 'neither of them counts')
})

t.test('the copy follows the snapshot and the deltas, and notices when it drifted', async t => {
  const { view, told } = watchFrom(null)
  const delta = (from: number) => ({
    type: 'STATE_DELTA',
    delta: [
      { op: 'test', path: '/revision', value: from },
      { op: 'replace', path: '/revision', value: from + 1 },
      {
        op: 'add',
        path: '/timeline/tracks/0',
        value: { kind: 'text', segments: [{ startMs: 0, durationMs: 3000, text: 'Urban Dreams' }] },
      },
    ],
  })
  t.throws(() => watchFrom(null).view.take(entry(9, delta(1))), { message: /before any STATE_SNAPSHOT/ })
  view.take(entry(9, snapshot))
  view.take(entry(10, delta(1)))
  t.equal(view.state()?.revision, 2)
  t.match(told(), /text “Urban Dreams” \(0\.0–3\.0 s\)/)
  t.throws(() => view.take(entry(11, delta(1))), { message: /the copy has drifted/ })
})

t.test('words of the backend cannot steer the terminal', async t => {
  const { view, told } = watchFrom(null)
  view.take(
    entry(1, { type: 'TEXT_MESSAGE_CONTENT', delta: 'Done\u001b[2J\u001b]0;owned\u0007\r\n now\u202e.' }),
  )
  const line = told()
  t.match(line, /“Done/)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  t.notMatch(line.trimEnd(), /[\u0000-\u001f\u007f-\u009f\u202e]/)
})

t.test('how a run ends', async t => {
  t.equal(endOf(entry(1, started)), null)
  t.strictSame(endOf(entry(1, { type: 'RUN_FINISHED' })), { silent: false })
  t.strictSame(endOf(entry(1, { type: 'RUN_FINISHED', metadata: { silent: true } })), { silent: true })
  t.throws(() => endOf(entry(1, { type: 'RUN_FINISHED', outcome: { type: 'cancelled' } })), {
    message: 'run r1 ended as cancelled',
  })
  t.throws(
    () => endOf(entry(1, { type: 'RUN_ERROR', message: 'Top up first.', code: 'credits_exhausted' })),
    {
      message: 'run r1 failed: credits_exhausted: Top up first.',
    },
  )
})
