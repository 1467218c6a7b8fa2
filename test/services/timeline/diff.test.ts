import fc from 'fast-check'
import { applyPatch } from 'rfc6902'
import t from 'tap'
import { diffState, type JsonPatchOp } from '../../../src/services/timeline/diff.ts'

function patched(before: unknown, ops: JsonPatchOp[]) {
  const document = { root: structuredClone(before) }
  const moved = ops.map(op => ({
    ...op,
    path: `/root${op.path}`,
    ...('from' in op && { from: `/root${op.from}` }),
  }))
  const errors = applyPatch(document, structuredClone(moved) as never)
  return { errors: errors.filter(Boolean), result: document.root }
}

const segment = (n: number, startMs: number) => ({
  startMs,
  durationMs: 1000,
  title: `clip number ${n}`,
  volume: 1,
})

/** About 47 KB. */
const bigState = () => ({
  revision: 3,
  timeline: {
    tracks: ['video', 'audio', 'text'].map(kind => ({
      kind,
      segments: Array.from({ length: 205 }, (_, i) => segment(i, i * 1000)),
    })),
    durationMs: 205_000,
    exportable: true,
  },
  media: [],
})

t.test('equal documents need nothing', async t => {
  t.same(diffState(bigState(), bigState()), [])
  t.same(diffState({ a: 1, b: [{}] }, { b: [{}], a: 1 }), [])
})

t.test('a changed title is one small operation', async t => {
  const after = bigState()
  after.timeline.tracks[2]!.segments[7]!.title = 'Urban Dreams'
  t.same(diffState(bigState(), after), [
    { op: 'replace', path: '/timeline/tracks/2/segments/7/title', value: 'Urban Dreams' },
  ])
})

t.test('one more, one less, one moved', async t => {
  const list = ['a', 'b', 'c', 'd'].map(title => ({ title, durationMs: 1 }))
  const extra = { title: 'x', durationMs: 2 }
  t.same(diffState(list, list.toSpliced(2, 0, extra)), [{ op: 'add', path: '/2', value: extra }])
  t.same(diffState(list, list.toSpliced(1, 1)), [{ op: 'remove', path: '/1' }])
  t.same(diffState(list, [...list.slice(1), list[0]]), [{ op: 'move', from: '/0', path: '/3' }])
  t.same(diffState(list, [list[3], ...list.slice(0, 3)]), [{ op: 'move', from: '/3', path: '/0' }])
})

t.test('an insert that shifts what follows leaves the followers in place', async t => {
  const before = Array.from({ length: 40 }, (_, i) => segment(i, i * 1000))
  const after = before.map((item, i) => (i < 10 ? item : { ...item, startMs: item.startMs + 500 }))
  after.splice(10, 0, { startMs: 10_000, durationMs: 500, title: 'new', volume: 0.5 })
  const ops = diffState(before, after)
  t.equal(ops.filter(op => op.op === 'add').length, 1)
  t.ok(ops.every(op => op.op === 'add' || op.path.endsWith('/startMs')))
  t.same(patched(before, ops), { errors: [], result: after })
})

t.test('keys that need escaping, and another type at the root', async t => {
  const before = { 'a/b': 1, 'm~n': 2, '': 3 }
  const after = { 'a/b': 2, 'm~n': { x: null }, '': [] }
  t.same(patched(before, diffState(before, after)), { errors: [], result: after })
  t.same(diffState(null, { a: 1 }), [{ op: 'replace', path: '', value: { a: 1 } }])
  t.same(diffState([1], { 0: 1 }), [{ op: 'replace', path: '', value: { 0: 1 } }])
})

t.test('applied, a patch gives the other document', async t => {
  const leaf = fc.oneof(fc.constantFrom(0, 1, 2, null, true, '', 'a'), fc.string({ maxLength: 3 }))
  const key = fc.constantFrom('a', 'b', 'c/d', 'e~f', 'startMs', 'title', '')
  const { value } = fc.letrec(tie => ({
    value: fc.oneof(
      { depthSize: 'small', maxDepth: 4, withCrossShrink: true },
      leaf,
      fc.array(tie('value'), { maxLength: 6 }),
      fc.dictionary(key, tie('value'), { maxKeys: 5 }),
    ),
  }))
  const item = fc.record({ startMs: fc.nat(3), title: fc.constantFrom('a', 'b', 'c'), volume: fc.nat(1) })
  const lists = fc.array(item, { maxLength: 8 })
  for (const pairs of [
    fc.tuple(value, value),
    fc.tuple(lists, lists),
    fc.tuple(fc.shuffledSubarray([1, 2, 3, 4, 5]), fc.shuffledSubarray([1, 2, 3, 4, 5])),
  ])
    fc.assert(
      fc.property(pairs as fc.Arbitrary<[unknown, unknown]>, ([before, after]) => {
        const { errors, result } = patched(before, diffState(before, after))
        return errors.length === 0 && JSON.stringify(sorted(result)) === JSON.stringify(sorted(after))
      }),
      { numRuns: 600 },
    )
  t.pass()
})

t.test('47 KB in under 2 ms', async t => {
  const before = bigState()
  t.ok(JSON.stringify(before).length > 45_000)
  const title = bigState()
  title.timeline.tracks[1]!.segments[100]!.title = 'x'
  const shifted = bigState()
  shifted.timeline.tracks[0]!.segments.splice(3, 0, segment(999, 3000))
  for (const item of shifted.timeline.tracks[0]!.segments.slice(4)) item.startMs += 1000
  const other = bigState()
  for (const track of other.timeline.tracks) track.segments.reverse()
  for (const after of [title, shifted, other]) {
    const times = Array.from({ length: 15 }, () => {
      const started = performance.now()
      diffState(before, after)
      return performance.now() - started
    })
    t.ok(Math.min(...times) < 2, `${Math.min(...times)} ms`)
    t.same(patched(before, diffState(before, after)), { errors: [], result: after })
  }
})

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, item]) => [key, sorted(item)])
}
