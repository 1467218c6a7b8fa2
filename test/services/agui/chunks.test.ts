import { EventSchemas } from '@ag-ui/core/schemas'
import t from 'tap'
import type { RunRow } from '../../../src/db/runs.ts'
import { toProblem } from '../../../src/problems.ts'
import { beginning, chunkFor, isEnd, retold } from '../../../src/services/agui/chunks.ts'
import type { Chunk } from '../../../src/services/events/event.ts'
import { runError, runFinished, runStarted } from '../../../src/services/runs/run.ts'

const run = {
  id: 'ours',
  projectId: 'project',
  createdAt: new Date(1_000),
  state: 'completed',
  reply: 'Done.',
  problem: null,
} as RunRow
const current = { runId: 'theirs', current: true, language: 'en' } as const
const old = { ...current, current: false }

t.test('ids are the client’s, and the beginning is told once', async t => {
  t.strictSame(beginning(run, current), {
    type: 'RUN_STARTED',
    threadId: 'project',
    runId: 'theirs',
    timestamp: 1_000,
    metadata: { runId: 'ours' },
  })
  t.equal(chunkFor(runStarted(run), current), null)
  t.match(chunkFor(runFinished(run, 'success'), old), { runId: 'theirs', outcome: { type: 'success' } })
})

t.test('what is between is passed on as it is', async t => {
  const chunks: Chunk[] = [
    { type: 'TEXT_MESSAGE_CONTENT', messageId: 'm', delta: 'x' },
    { type: 'STATE_DELTA', delta: [] },
    { type: 'CUSTOM', name: 'run.progress', value: { runId: 'ours' } },
    runError(toProblem('content_filtered')),
  ]
  for (const chunk of chunks) for (const reader of [current, old]) t.equal(chunkFor(chunk, reader), chunk)
})

t.test('a stop, for those who know of it and those who do not', async t => {
  const stop = runFinished(run, 'cancelled')
  t.match(chunkFor(stop, current), { type: 'RUN_FINISHED', runId: 'theirs', outcome: { type: 'cancelled' } })
  t.match(chunkFor(stop, old), { type: 'RUN_ERROR', code: 'stopped', message: /^Stopped/ })
  t.match(chunkFor(stop, { ...old, language: 'zh' }), { message: /^已停止/ })
})

t.test('a run that is not kept is retold to its end', async t => {
  for (const [row, end] of [
    [run, { type: 'RUN_FINISHED', runId: 'theirs' }],
    [
      { ...run, state: 'stopped' },
      { type: 'RUN_ERROR', code: 'stopped' },
    ],
    [{ ...run, state: 'failed', problem: toProblem('outcome_unknown') }, { code: 'outcome_unknown' }],
  ] as [RunRow, object][]) {
    const chunks = retold(row, old)
    for (const chunk of chunks) t.ok(EventSchemas.safeParse(chunk).success)
    t.match(chunks[2], { delta: 'Done.' })
    t.match(chunks.at(-1), end)
    t.strictSame(chunks.map(isEnd), [false, false, false, false, true])
  }
  t.equal(retold({ ...run, reply: null }, old).length, 2, 'no message without a word')
})
