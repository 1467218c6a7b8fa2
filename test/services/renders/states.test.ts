import t from 'tap'
import {
  canTransition,
  isTerminal,
  nextPollMs,
  progressOf,
  type RenderStateName,
} from '../../../src/services/renders/states.ts'

const STATES: RenderStateName[] = ['queued', 'submitting', 'rendering', 'completed', 'failed', 'cancelled']

t.test('the way of a render', async t => {
  const allowed = STATES.flatMap(from =>
    STATES.filter(to => canTransition(from, to)).map(to => `${from} ${to}`),
  )
  t.same(allowed, [
    'queued submitting',
    'queued failed',
    'queued cancelled',
    'submitting queued',
    'submitting rendering',
    'submitting completed',
    'submitting failed',
    'submitting cancelled',
    'rendering queued',
    'rendering completed',
    'rendering failed',
    'rendering cancelled',
    'failed queued',
    'failed completed',
  ])
  t.same(STATES.filter(isTerminal), ['completed', 'failed', 'cancelled'])
})

t.test('polls: soon at first, steady, then slower up to five minutes', async t => {
  t.equal(nextPollMs(0, 30_000), 5_000)
  t.equal(nextPollMs(0, 100), 100)
  for (let polls = 1; polls < 10; polls++) t.equal(nextPollMs(polls, 30_000), 30_000)
  t.equal(nextPollMs(10, 30_000), 45_000)
  t.equal(nextPollMs(11, 30_000), 67_500)
  t.equal(nextPollMs(16, 30_000), 300_000)
  t.equal(nextPollMs(1e9, 30_000), 300_000)
  t.equal(nextPollMs(20, 600_000), 600_000)
})

t.test('a day of polling costs a few hundred polls', async t => {
  let polls = 0
  for (let ms = 0; ms < 24 * 3600_000; polls++) ms += nextPollMs(polls, 30_000)
  t.ok(polls > 250 && polls < 350, String(polls))
})

t.test('progress never goes back and is not complete before the render is', async t => {
  t.equal(progressOf(0, 5), 5)
  t.equal(progressOf(40, 30), 40)
  t.equal(progressOf(40, null), 40)
  t.equal(progressOf(40, Number.NaN), 40)
  t.equal(progressOf(40, 55.9), 55)
  t.equal(progressOf(98, 100), 99)
  t.equal(progressOf(0, -5), 0)
})
