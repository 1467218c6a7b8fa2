import fc from 'fast-check'
import t from 'tap'
import { createSentenceHolder, sentencesOf } from '../../../src/services/narration/sentences.ts'

function spoken(language: 'en' | 'zh', deltas: string[]) {
  const holder = createSentenceHolder(language)
  return [...deltas.map(delta => holder.push(delta).join('')), holder.flush().join('')]
}

t.test('a sentence is released when the next one begins', async t => {
  t.same(spoken('en', ['I cut', ' the intro. ', 'Now the', ' music']), [
    '',
    '',
    'I cut the intro. ',
    '',
    'Now the music',
  ])
  t.same(spoken('zh', ['片头已', '剪短。', '接着是', '音乐']), ['', '', '片头已剪短。', '', '接着是音乐'])
})

t.test('an ended line is released at once', async t => {
  t.same(spoken('en', ['Done\n', '- Title\n']), ['Done\n', '- Title\n', ''])
})

t.test('several sentences in one delta', async t => {
  t.same(spoken('en', ['One. Two! Three? Fo', 'ur.']), ['One. Two! Three? ', '', 'Four.'])
  t.same(spoken('zh', ['好！已完成。标题：“Hi”。还有']), ['好！已完成。标题：“Hi”。', '还有'])
})

t.test('what only looks like an end', async t => {
  const whole = [
    ['en', 'Dr. Smith speaks at the start.'],
    ['en', 'Use a font, e.g. Inter, for the title.'],
    ['en', 'Wait for it... Here it comes.'],
    ['en', 'The clip is 3.5 seconds long.'],
    ['en', 'Version 2.0 is ready.'],
    ['en', 'J. Doe sings.'],
    ['en', 'The title says "Ready? Click Export!"'],
    ['en', 'It reads “One. Two. Three.” at the end.'],
    ['en', '1. Click Export.'],
    ['en', 'It lasts approx. Ten seconds.'],
    ['zh', '标题是“准备好了吗？点击导出！”'],
  ] as const
  for (const [language, text] of whole) {
    t.same(sentencesOf(text, language), [text], text)
    t.equal(spoken(language, [...text]).filter(Boolean).length, 1, `${text} by letters`)
  }
  t.same(sentencesOf('3.5 seconds. 4 clips.', 'en'), ['3.5 seconds. ', '4 clips.'])
})

t.test('a quotation mark left open does not hold the rest', async t => {
  const text = `A 5" screen. ${'It goes on and on. '.repeat(20)}`
  t.ok(sentencesOf(text, 'en').length > 5)
})

t.test('nothing is lost or added, however the text is cut', async () => {
  const piece = fc.constantFrom(
    'Hello. ',
    '你好。',
    'Dr. ',
    '...',
    '3.5',
    '\n',
    '\r\n',
    '！',
    '“',
    '”',
    ' ',
    'word ',
    '👩‍👩‍👧',
    'e.g. ',
    '1. ',
  )
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 30 }),
      fc.array(fc.nat(12)),
      fc.boolean(),
      (pieces, cuts, chinese) => {
        const text = pieces.join('')
        const deltas: string[] = []
        let from = 0
        for (const cut of cuts) {
          deltas.push(text.slice(from, from + cut))
          from += cut
        }
        deltas.push(text.slice(from))
        return spoken(chinese ? 'zh' : 'en', deltas).join('') === text
      },
    ),
    { numRuns: 300 },
  )
})

t.test('a long tail without a break is released and stays cheap', async t => {
  const holder = createSentenceHolder('en')
  let held = 0
  let most = 0
  const started = performance.now()
  for (let i = 0; i < 8_000; i++) {
    held += 4 - holder.push(i % 3 === 0 ? 'e.g ' : 'word').join('').length
    most = Math.max(most, held)
  }
  t.ok(most <= 2_000, `held ${most}`)
  t.ok(performance.now() - started < 1_000, `${performance.now() - started} ms`)
})

t.test('no half of a character is released', async t => {
  const holder = createSentenceHolder('en')
  const out = [...holder.push(`${'a'.repeat(2_000)}\ud83d`), ...holder.push('\ude00')].join('')
  t.ok(out.isWellFormed())
  t.equal(out + holder.flush().join(''), `${'a'.repeat(2_000)}😀`)
})
