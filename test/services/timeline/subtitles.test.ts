import t from 'tap'
import type { Segment, Timeline } from '../../../src/services/timeline/draft.ts'
import { subtitles } from '../../../src/services/timeline/subtitles.ts'

const timeline = (...tracks: Timeline['tracks']): Timeline => ({ tracks, durationMs: 0, exportable: true })
const text = (startMs: number, durationMs: number, text: string): Segment => ({ startMs, durationMs, text })

t.test('cues of all text tracks, by their start', async t => {
  const two = timeline(
    { kind: 'video', segments: [{ startMs: 0, durationMs: 9_000, title: 'beach' }] },
    { kind: 'text', segments: [text(0, 1_500, 'Hello'), text(3_723_004, 1_000, '你好 👋')] },
    { kind: 'text', segments: [text(1_000, 2_000, 'two\nlines')] },
  )
  t.equal(
    subtitles(two, 'srt'),
    `1
00:00:00,000 --> 00:00:01,500
Hello

2
00:00:01,000 --> 00:00:03,000
two
lines

3
01:02:03,004 --> 01:02:04,004
你好 👋
`,
  )
  t.match(subtitles(two, 'vtt'), /^WEBVTT\n\n1\n00:00:00\.000 --> 00:00:01\.500\nHello\n\n2\n/)
})

t.test('a text cannot add a cue or markup of its own', async t => {
  const hostile = timeline({
    kind: 'text',
    segments: [text(0, 1_000, 'a\r\n\r\n2\n00:00:01,000 --> 00:00:02,000\n<b>b & c</b>')],
  })
  t.equal(
    subtitles(hostile, 'srt'),
    '1\n00:00:00,000 --> 00:00:01,000\na\n2\n00:00:01,000 → 00:00:02,000\n<b>b & c</b>\n',
  )
  const vtt = subtitles(hostile, 'vtt')
  t.equal(vtt.match(/-->/g)?.length, 1)
  t.match(vtt, '&lt;b&gt;b &amp; c&lt;/b&gt;')
})

t.test('what shows nothing is no cue', async t => {
  const nothing = timeline(
    {
      kind: 'text',
      segments: [text(0, 0, 'gone'), text(0, 1_000, ' \n '), { startMs: 0, durationMs: 1_000 }],
    },
    { kind: 'audio', segments: [{ startMs: 0, durationMs: 1_000, title: 'Lo-fi' }] },
  )
  t.equal(subtitles(nothing, 'srt'), '')
  t.equal(subtitles(nothing, 'vtt'), 'WEBVTT\n')
})
