import fc from 'fast-check'
import t from 'tap'
import { decodeDraft } from '../../../src/services/timeline/draft.ts'

const decode = (value: unknown) => decodeDraft(JSON.stringify(value))
const EMPTY = { tracks: [], durationMs: 0, exportable: false }

t.test('tracks, with offsets by summing what lasts', async t => {
  t.same(
    decode({
      t: [
        { tt: 0, sg: [{ d: 4000, m: { title: 'city' } }, { d: 6000 }] },
        { tt: 1, sg: [{ d: 10_000, m: { title: 'Lo-fi' }, volume: 0.35 }] },
        { tt: 7, sg: [{ d: 3000, m: { title: 'Urban Dreams' } }] },
        { tt: 42, sg: [{ d: 1 }] },
      ],
    }),
    {
      tracks: [
        {
          kind: 'video',
          segments: [
            { startMs: 0, durationMs: 4000, title: 'city' },
            { startMs: 4000, durationMs: 6000 },
          ],
        },
        { kind: 'audio', segments: [{ startMs: 0, durationMs: 10_000, title: 'Lo-fi', volume: 0.35 }] },
        { kind: 'text', segments: [{ startMs: 0, durationMs: 3000, text: 'Urban Dreams' }] },
        { kind: 'unknown', segments: [{ startMs: 0, durationMs: 1 }] },
      ],
      durationMs: 10_000,
      exportable: true,
    },
  )
})

t.test('an offset that is told wins, and the next segment follows it', async t => {
  for (const told of [{ start: 5000 }, { s: 5000 }, { st: 5000 }, { m: { start: 5000 } }]) {
    const segments = decode({ t: [{ tt: 0, sg: [{ d: 1000, ...told }, { d: 500 }] }] }).tracks[0]?.segments
    t.same(
      segments?.map(segment => segment.startMs),
      [5000, 6000],
      JSON.stringify(told),
    )
  }
})

t.test('volume: numbers only, as a factor', async t => {
  const volumeOf = (fields: object) =>
    decode({ t: [{ tt: 1, sg: [{ d: 1, ...fields }] }] }).tracks[0]?.segments[0]?.volume
  t.equal(volumeOf({ volume: 0.35 }), 0.35)
  t.equal(volumeOf({ v: 0 }), 0)
  t.equal(volumeOf({ m: { volume: 0.5 } }), 0.5)
  t.equal(volumeOf({ volume: 35 }), 0.35)
  t.equal(volumeOf({ volume: -1 }), 0)
  t.equal(volumeOf({ volume: 1e300 }), 4)
  t.equal(volumeOf({ volume: 'loud', v: null }), undefined)
})

t.test('text of its own before the title', async t => {
  const segment = decode({ t: [{ tt: 7, sg: [{ d: 1, text: 'Hello', m: { title: 'Caption 1' } }] }] })
    .tracks[0]?.segments[0]
  t.same(segment, { startMs: 0, durationMs: 1, title: 'Caption 1', text: 'Hello' })
})

t.test('exportable if and only if a track has a segment', async t => {
  for (const draft of [
    null,
    {},
    [],
    '',
    'x',
    7,
    true,
    { t: [] },
    { t: {} },
    { t: 'ab' },
    { t: [{ tt: 0, sg: [] }] },
    { t: [null, { sg: {} }] },
  ])
    t.equal(decode(draft).exportable, false, JSON.stringify(draft))
  t.equal(decodeDraft(null).exportable, false)
  t.equal(decode({ t: [{ tt: 0, sg: [] }, { sg: [{}] }] }).exportable, true)
})

t.test('the XML form is not decoded, only looked at', async t => {
  const full = '<draft><track><segment id="1"/></track></draft>'
  for (const raw of [full, `  ${full}`, JSON.stringify(full)])
    t.same(decodeDraft(raw), { ...EMPTY, exportable: true }, raw)
  for (const raw of [
    '<draft/>',
    '<draft><track></track></draft>',
    '<draft><segments-off/></draft>',
    '<html><clip/></html>',
  ])
    t.same(decodeDraft(raw), EMPTY, raw)
})

t.test('JSON inside a JSON string', async t => {
  t.equal(decodeDraft(JSON.stringify(JSON.stringify({ t: [{ tt: 0, sg: [{ d: 5 }] }] }))).durationMs, 5)
})

t.test('numbers are clamped', async t => {
  const [segment] = decode({ t: [{ tt: 0, sg: [{ start: -5, d: -1 }] }] }).tracks[0]!.segments
  t.same(segment, { startMs: 0, durationMs: 0 })
  const huge = decodeDraft('{"t":[{"tt":0,"sg":[{"d":1e308},{"d":1e308},{"start":1e999,"d":12.6}]}]}')
  t.equal(huge.durationMs, 86_400_000)
  t.same(huge.tracks[0]?.segments[2], { startMs: 86_400_000, durationMs: 0 })
})

t.test('the number of tracks and segments and the length of texts are bounded', async t => {
  const wide = decode({
    t: Array.from({ length: 1000 }, () => ({ tt: 7, sg: Array.from({ length: 100 }, () => ({ d: 1 })) })),
  })
  t.equal(wide.tracks.length, 64)
  t.equal(wide.tracks.flatMap(track => track.segments).length, 2000)
  t.equal(wide.exportable, true)
  const text = decode({ t: [{ tt: 7, sg: [{ d: 1, text: '😀'.repeat(5000) }] }] }).tracks[0]?.segments[0]
    ?.text
  t.ok(text && text.length <= 500 && text.isWellFormed())
})

t.test('hostile texts and keys', async t => {
  const raw =
    '{"__proto__":{"t":[{"sg":[{}]}]},"t":[{"tt":7,"__proto__":{"sg":[{"d":1}]},"sg":[{"d":1,"m":{"title":"a\\u0000b\\u202ec\\ud800"}}]}]}'
  const { tracks } = decodeDraft(raw)
  t.same(tracks, [{ kind: 'text', segments: [{ startMs: 0, durationMs: 1, text: 'a b c\ufffd' }] }])
  t.same(decodeDraft('{"__proto__":{"t":[{"sg":[{}]}]}}'), EMPTY)
  t.equal(({} as { t?: unknown }).t, undefined)
})

t.test('anything at all is a timeline', async t => {
  const keys = fc.constantFrom('t', 'tt', 'sg', 'd', 'm', 'start', 'volume', 'title', 'text', '__proto__')
  const { value } = fc.letrec(tie => ({
    value: fc.oneof(
      { maxDepth: 4, depthSize: 'small', withCrossShrink: true },
      fc.jsonValue(),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(keys, tie('value'), { maxKeys: 5 }),
    ),
  }))
  const sound = (timeline: ReturnType<typeof decodeDraft>) =>
    timeline.tracks.every(track =>
      track.segments.every(
        segment =>
          Number.isInteger(segment.startMs) &&
          Number.isInteger(segment.durationMs) &&
          segment.startMs + segment.durationMs <= timeline.durationMs,
      ),
    )
  fc.assert(
    fc.property(value, draft => sound(decode({ t: draft })) && sound(decode({ t: [{ sg: [draft] }] }))),
    { numRuns: 150 },
  )
  fc.assert(fc.property(fc.string(), text => sound(decodeDraft(text))))
  t.same(decodeDraft(`${'['.repeat(200_000)}`), EMPTY)
  t.same(decodeDraft(`{"t":${'['.repeat(5000)}${']'.repeat(5000)}}`).tracks, [])
})
