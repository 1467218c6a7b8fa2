import t from 'tap'
import { describeChanges } from '../../../src/services/timeline/changes.ts'
import type { Segment, Timeline, TrackKind } from '../../../src/services/timeline/draft.ts'

function timeline(...tracks: [TrackKind, ...Segment[]][]): Timeline {
  const all = tracks.map(([kind, ...segments]) => ({ kind, segments }))
  const ends = all.flatMap(track => track.segments.map(segment => segment.startMs + segment.durationMs))
  return { tracks: all, durationMs: Math.max(0, ...ends), exportable: ends.length > 0 }
}
const clip = (title: string, startMs: number, durationMs: number): Segment => ({ startMs, durationMs, title })
const text = (words: string, startMs = 0, durationMs = 3000): Segment => ({
  startMs,
  durationMs,
  text: words,
})
const music = (title: string, volume?: number): Segment => ({
  startMs: 0,
  durationMs: 10_000,
  title,
  ...(volume !== undefined && { volume }),
})

const city = clip('city', 0, 10_000)
const base = timeline(['video', city])

t.test('nothing changed', async t => {
  t.equal(describeChanges(base, structuredClone(base), 'en'), null)
  const sameInAnotherOrder = timeline(['video', { title: 'city', durationMs: 10_000, startMs: 0 }])
  t.equal(describeChanges(base, sameInAnotherOrder, 'en'), null)
  t.equal(
    describeChanges(base, base, 'en', { before: [{ id: '1', name: 'a' }], after: [{ id: '1', name: 'a' }] }),
    null,
  )
})

const CASES: [name: string, before: Timeline, after: Timeline, en: string, zh: string][] = [
  [
    'title added',
    base,
    timeline(['video', city], ['text', text('Urban Dreams')]),
    'Title added: “Urban Dreams” (0-3s)',
    '已添加标题：“Urban Dreams”（0-3秒）',
  ],
  [
    'title removed',
    timeline(['video', city], ['text', text('Urban Dreams')]),
    base,
    'Title removed: “Urban Dreams”',
    '已移除标题：“Urban Dreams”',
  ],
  [
    'text changed',
    timeline(['text', text('Urban Dreams')]),
    timeline(['text', text('City Nights')]),
    'Title changed: “Urban Dreams” → “City Nights”',
    '标题已更改：“Urban Dreams” → “City Nights”',
  ],
  [
    'music added',
    base,
    timeline(['video', city], ['audio', music('Lo-fi', 0.35)]),
    'Music added: Lo-fi (0-10s, 35%)',
    '已添加音乐：Lo-fi（0-10秒，35%）',
  ],
  [
    'music removed',
    timeline(['audio', music('Lo-fi')]),
    timeline(),
    'Music removed: Lo-fi',
    '已移除音乐：Lo-fi',
  ],
  [
    'music turned down',
    timeline(['audio', music('Lo-fi')]),
    timeline(['audio', music('Lo-fi', 0.35)]),
    'Music volume changed: Lo-fi (100% → 35%)',
    '音乐音量已更改：Lo-fi（100% → 35%）',
  ],
  [
    'clip trimmed; the next one only follows',
    timeline(['video', city, clip('beach', 10_000, 4000)]),
    timeline(['video', clip('city', 0, 5000), clip('beach', 5000, 4000)]),
    'Clip length changed: city (0-10s → 0-5s)',
    '片段时长已更改：city（0-10秒 → 0-5秒）',
  ],
  [
    'clip moved',
    base,
    timeline(['video', clip('city', 2000, 10_000)]),
    'Clip moved: city (0-10s → 2-12s)',
    '片段已移动：city（0-10秒 → 2-12秒）',
  ],
  [
    'first clip removed; the next one only follows',
    timeline(['video', city, clip('beach', 10_000, 4000)]),
    timeline(['video', clip('beach', 0, 4000)]),
    'Clip removed: city',
    '已移除片段：city',
  ],
  [
    'unnamed clips',
    timeline(['video', { startMs: 0, durationMs: 10_000 }]),
    timeline(['video', { startMs: 0, durationMs: 5000 }]),
    'Clip length changed: clip 1 (0-10s → 0-5s)',
    '片段时长已更改：片段 1（0-10秒 → 0-5秒）',
  ],
  [
    'two things',
    base,
    timeline(['video', clip('city', 0, 5000)], ['text', text('Hi')]),
    'Title added: “Hi” (0-3s); Clip length changed: city (0-10s → 0-5s)',
    '已添加标题：“Hi”（0-3秒）；片段时长已更改：city（0-10秒 → 0-5秒）',
  ],
]

for (const [name, before, after, en, zh] of CASES)
  t.test(name, async t => {
    t.equal(describeChanges(before, after, 'en'), en)
    t.equal(describeChanges(before, after, 'zh'), zh)
  })

t.test('many of a kind are counted', async t => {
  const lines = Array.from({ length: 12 }, (_, i) => text(`line ${i}`, i * 1000, 1000))
  t.equal(describeChanges(base, timeline(['video', city], ['text', ...lines]), 'en'), '12 titles added')
  t.equal(describeChanges(timeline(['video', city], ['text', ...lines]), base, 'zh'), '已移除 12 个标题')
})

t.test('a long list of changes is cut', async t => {
  const clips = (volume: number): Segment[] =>
    Array.from({ length: 9 }, (_, i) => ({ ...clip(`c${i}`, i * 1000, 1000), volume }))
  const words = describeChanges(timeline(['video', ...clips(1)]), timeline(['video', ...clips(0.5)]), 'en')
  t.match(words, /; 3 more changes$/)
})

t.test('media that came', async t => {
  const media = {
    before: [{ id: '1', name: 'a.mp4' }],
    after: ['1', '2', '3', '4', '5'].map(id => ({ id, name: `${id}.mp4` })),
  }
  t.equal(describeChanges(base, base, 'en', media), 'Media added: 2.mp4, 3.mp4, 4.mp4 and 1 more')
})

t.test('a change without words of its own is not denied', async t => {
  t.equal(describeChanges(base, { ...base, exportable: false }, 'en'), 'The timeline was adjusted')
})

t.test('a thousand subtitles are compared quickly', async t => {
  const lines = (shift: number) =>
    Array.from({ length: 2000 }, (_, i) => text(`line ${i % 7}`, i * 1000 + shift, 1000))
  const started = performance.now()
  t.ok(describeChanges(timeline(['text', ...lines(0)]), timeline(['text', ...lines(250)]), 'en'))
  t.ok(performance.now() - started < 250, `${performance.now() - started} ms`)
})
