import t from 'tap'
import { canTransition, isActive, isTerminal, type RunState } from '../../../src/services/runs/states.ts'

const STATES: RunState[] = ['queued', 'running', 'reconciling', 'completed', 'failed', 'stopped']

t.test('the way of a run', async t => {
  const allowed = STATES.flatMap(from =>
    STATES.filter(to => canTransition(from, to)).map(to => `${from} ${to}`),
  )
  t.same(allowed, [
    'queued running',
    'queued failed',
    'queued stopped',
    'running reconciling',
    'running completed',
    'running failed',
    'running stopped',
    'reconciling completed',
    'reconciling failed',
    'reconciling stopped',
  ])
})

t.test('a run that may have been delivered is never queued again', async t => {
  for (const from of STATES) t.notOk(canTransition(from, 'queued'), from)
})

t.test('what holds the project, and what is over', async t => {
  t.same(STATES.filter(isActive), ['running', 'reconciling'])
  t.same(STATES.filter(isTerminal), ['completed', 'failed', 'stopped'])
})
