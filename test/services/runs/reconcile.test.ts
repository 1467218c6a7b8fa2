import t from 'tap'
import { judge } from '../../../src/services/runs/reconcile.ts'

/** What is concluded from these reads, one after the other, of a project that was `before`. */
function reads(fingerprints: string[], baseline: string | null = 'before', limit = 5) {
  let known: Parameters<typeof judge>[1] = { baseline, lastRead: null, unchangedReads: 0 }
  const verdicts = []
  for (const read of fingerprints) {
    const verdict = judge(read, known, limit)
    verdicts.push(verdict.kind)
    if (verdict.kind !== 'wait') break
    known = { baseline, lastRead: read, unchangedReads: verdict.unchangedReads }
  }
  return verdicts
}

t.test('an edit is there once two reads agree', async t => {
  t.same(reads(['after', 'after']), ['wait', 'edited'])
  t.same(reads(['before', 'before', 'after', 'after']), ['wait', 'wait', 'wait', 'edited'])
})

t.test('a backend that is still adding to it is waited for', async t => {
  t.same(reads(['raw', 'music', 'title', 'title']), ['wait', 'wait', 'wait', 'edited'])
  t.same(reads(['raw', 'before', 'raw', 'raw']), ['wait', 'wait', 'wait', 'edited'])
})

t.test('after five reads that found nothing new, nobody can tell', async t => {
  t.same(reads(Array(9).fill('before')), ['wait', 'wait', 'wait', 'wait', 'unknown'])
  t.same(reads(Array(9).fill('before'), 'before', 1), ['unknown'])
})

t.test('only reads in a row count', async t => {
  const four = Array(4).fill('before')
  t.same(reads([...four, 'raw', ...four, 'before']).at(-1), 'unknown')
  t.equal(reads([...four, 'raw', ...four, 'before']).length, 10)
})

t.test('a project of which nothing was known', async t => {
  t.same(reads(['first', 'first'], null), ['wait', 'edited'])
})
