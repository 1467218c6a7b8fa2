import t from 'tap'
import type { Timeline } from '../../../src/services/timeline/draft.ts'
import { decodeDraft } from '../../../src/services/timeline/draft.ts'
import { summarise } from '../../../src/services/timeline/summary.ts'

const DRAFT = JSON.stringify({
  t: [
    { tt: 0, sg: [{ d: 10_000, m: { title: 'city timelapse' } }] },
    { tt: 1, sg: [{ d: 10_000, m: { title: 'Lo-fi' }, volume: 0.35 }] },
    { tt: 7, sg: [{ d: 3000, m: { title: 'Urban Dreams' } }] },
  ],
})

const timeline = (tracks: Timeline['tracks'], exportable = true): Timeline => ({
  tracks,
  durationMs: 0,
  exportable,
})

t.test('word for word', async t => {
  t.equal(
    summarise(decodeDraft(DRAFT), 'en'),
    'Timeline (3 tracks): 1. Video: city timelapse (0-10s) 2. BGM: Lo-fi (0-10s, 35%) 3. Title: "Urban Dreams" (0-3s)',
  )
  t.equal(
    summarise(decodeDraft(DRAFT), 'zh'),
    '时间线（3 条轨道）：1. 视频：city timelapse（0-10秒） 2. 配乐：Lo-fi（0-10秒，35%） 3. 标题："Urban Dreams"（0-3秒）',
  )
})

t.test('several segments, parts of seconds, full volume, no names', async t => {
  const segments = [
    { startMs: 0, durationMs: 2500, volume: 1 },
    { startMs: 2500, durationMs: 1001, title: 'beach' },
  ]
  t.equal(
    summarise(timeline([{ kind: 'video', segments }]), 'en'),
    'Timeline (1 track): 1. Video: clip 1 (0-2.5s), beach (2.5-3.5s)',
  )
})

t.test('an empty timeline has words too', async t => {
  for (const tracks of [[], [{ kind: 'video', segments: [] } as const]] as Timeline['tracks'][]) {
    t.equal(summarise(timeline(tracks, false), 'en'), 'The timeline is empty.')
    t.equal(summarise(timeline(tracks, false), 'zh'), '时间线是空的。')
  }
  t.equal(summarise(timeline([], true), 'en'), 'The timeline has content; its tracks cannot be listed.')
})

t.test('an empty track beside a full one', async t => {
  const tracks: Timeline['tracks'] = [
    { kind: 'video', segments: [{ startMs: 0, durationMs: 1000 }] },
    { kind: 'audio', segments: [] },
  ]
  t.equal(summarise(timeline(tracks), 'en'), 'Timeline (2 tracks): 1. Video: clip 1 (0-1s) 2. BGM: empty')
})

t.test('long timelines stay short, on one line', async t => {
  const segments = Array.from({ length: 2000 }, (_, i) => ({
    startMs: i,
    durationMs: 1,
    text: `line\n${'x'.repeat(400)}`,
  }))
  for (const language of ['en', 'zh'] as const) {
    const words = summarise(
      timeline(Array.from({ length: 64 }, () => ({ kind: 'text', segments }))),
      language,
    )
    t.ok(words.length < 6000, String(words.length))
    t.notMatch(words, /\n/)
    t.match(words, /1995/)
  }
})
