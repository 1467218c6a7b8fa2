import assert from 'node:assert/strict'
import fc from 'fast-check'
import * as rfc6902 from 'rfc6902'
import t from 'tap'
import { applyPatch, type Operation } from '../../demo/patch.ts'

const timeline = {
  revision: 3,
  timeline: { tracks: [{ kind: 'video', segments: [{ startMs: 0, durationMs: 4000 }] }] },
  media: [{ id: 'm1', name: 'clip.mp4' }],
}

t.test('an edit as the gateway sends it', async t => {
  const title = { kind: 'text', segments: [{ startMs: 0, durationMs: 3000, text: 'Urban Dreams' }] }
  const before = structuredClone(timeline)
  const after = applyPatch(timeline, [
    { op: 'test', path: '/revision', value: 3 },
    { op: 'replace', path: '/revision', value: 4 },
    { op: 'add', path: '/timeline/tracks/1', value: title },
    { op: 'add', path: '/media/-', value: { id: 'm2', name: 'calm.mp3' } },
    { op: 'remove', path: '/media/0' },
  ])
  t.strictSame(after, {
    revision: 4,
    timeline: { tracks: [timeline.timeline.tracks[0], title] },
    media: [{ id: 'm2', name: 'calm.mp3' }],
  })
  t.strictSame(timeline, before, 'the copy before stays as it was')
})

t.test('a copy that drifted is noticed and left alone', async t => {
  const before = structuredClone(timeline)
  const late: Operation[] = [
    { op: 'replace', path: '/revision', value: 9 },
    { op: 'test', path: '/media', value: [] },
  ]
  t.throws(() => applyPatch(timeline, late), { message: /test failed at "\/media"/ })
  t.strictSame(timeline, before)
})

t.test('what cannot be applied is refused, as RFC 6902 wants', async t => {
  const refused: Operation[] = [
    { op: 'remove', path: '/nothing' },
    { op: 'replace', path: '/nothing', value: 1 },
    { op: 'test', path: '/nothing', value: null },
    { op: 'add', path: '/nothing/deeper', value: 1 },
    { op: 'add', path: '/revision/deeper', value: 1 },
    { op: 'add', path: '/media/2', value: 1 },
    { op: 'add', path: '/media/01', value: 1 },
    { op: 'add', path: '/media/-1', value: 1 },
    { op: 'replace', path: '/media/1', value: 1 },
    { op: 'replace', path: '/media/-', value: 1 },
    { op: 'remove', path: '/media/length' },
    { op: 'remove', path: '' },
    { op: 'add', path: 'media', value: 1 },
    { op: 'move', path: '/media' } as unknown as Operation,
  ]
  for (const operation of refused) {
    t.throws(() => applyPatch(timeline, [operation]), `${operation.op} ${operation.path}`)
  }
})

t.test('pointers: escapes, empty keys, the root', async t => {
  t.strictSame(applyPatch({ 'a/b': 1, '~1': 2, '': 3 }, [{ op: 'remove', path: '/a~1b' }]), {
    '~1': 2,
    '': 3,
  })
  t.strictSame(applyPatch({ '~1': 2 }, [{ op: 'replace', path: '/~01', value: 5 }]), { '~1': 5 })
  t.strictSame(applyPatch({ '': 3 }, [{ op: 'replace', path: '/', value: 4 }]), { '': 4 })
  t.strictSame(applyPatch({ a: 1 }, [{ op: 'replace', path: '', value: [] }]), [])
})

t.test('a patch cannot reach a prototype', async t => {
  const patched = applyPatch({}, [{ op: 'add', path: '/__proto__', value: { admin: true } }]) as object
  t.equal(Object.getPrototypeOf(patched), Object.prototype)
  t.throws(() => applyPatch({}, [{ op: 'add', path: '/__proto__/admin', value: true }]))
  t.throws(() => applyPatch({}, [{ op: 'add', path: '/constructor/prototype/admin', value: true }]))
  t.notOk('admin' in {})
})

t.test('agrees with rfc6902 on any two documents', async () => {
  // -0 and __proto__ are left out: JSON has no -0, and rfc6902 refuses the key.
  const json = fc.jsonValue({ maxDepth: 4 }).map(value => JSON.parse(JSON.stringify(value)))
  const pair = fc.tuple(json, json).filter(([a, b]) => !JSON.stringify([a, b]).includes('__proto__'))
  fc.assert(
    fc.property(pair, ([a, b]) => {
      const before = structuredClone(a)
      assert.deepStrictEqual(applyPatch(a, rfc6902.createPatch(a, b) as Operation[]), b)
      assert.deepStrictEqual(a, before)
    }),
    { numRuns: 300 },
  )
})
