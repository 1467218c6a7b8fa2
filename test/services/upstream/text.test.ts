import fc from 'fast-check'
import t from 'tap'
import { createTextAssembler } from '../../../src/services/upstream/text.ts'

type Step = string | { whole: string } | 'TURN'

function shown(steps: Step[]): string[] {
  const assembler = createTextAssembler()
  const out = steps.map(step => {
    if (step === 'TURN') {
      assembler.turnEnded()
      return ''
    }
    return typeof step === 'string' ? assembler.push(step, true) : assembler.push(step.whole, false)
  })
  return [...out, assembler.finish()]
}
const visible = (...steps: Step[]) => shown(steps).join('')
const NOISE = 'I encountered a temporary issue. Please try again.'

t.test('with and without partials the same text', async t => {
  t.same(shown(['Trim', 'ming', { whole: 'Trimming' }]), ['Trim', 'ming', '', ''])
  t.same(shown([{ whole: 'Trimming' }]), ['Trimming', ''])
  t.same(shown(['Trim', { whole: 'Trimming now' }]), ['Trim', 'ming now', ''], 'only what is new')
  t.same(shown(['Trim', 'ming']), ['Trim', 'ming', ''], 'a stream without the whole text')
})

t.test('several turns in a run', async t => {
  t.equal(visible('One', ' two.', { whole: 'One two.' }, ' Three', { whole: ' Three.' }), 'One two. Three.')
  t.equal(visible({ whole: 'One.' }, { whole: 'One.' }), 'One.One.', 'a turn may say the same again')
  t.equal(
    visible('One.', 'TURN', 'Two.', { whole: 'Two.' }),
    'One.Two.',
    'a turn that never got its whole text',
  )
  t.equal(visible('One.', 'Two.', { whole: 'Two.' }), 'One.Two.', 'also when nobody noticed its end')
})

t.test('a whole text that differs', async t => {
  t.equal(visible('Trimming  the', { whole: 'Trimming the intro' }), 'Trimming  the intro', 'in white space')
  t.equal(visible(' Trimming\n', { whole: 'Trimming now' }), ' Trimming\nnow')
  t.equal(visible('Trimming now. ', { whole: 'Trimming now.' }), 'Trimming now. ', 'shorter')
  t.equal(visible('Trimming', { whole: 'Cutting' }), 'Trimming\n\nCutting', 'another text is not lost')
})

t.test('the trailing temporary issue is dropped', async t => {
  t.equal(visible({ whole: `Title added. ${NOISE}` }), 'Title added. ')
  t.equal(visible({ whole: 'Title added.' }, { whole: NOISE }), 'Title added.')
  t.equal(
    visible('Title added. I enc', 'ountered a temp', 'orary issue, sorry', {
      whole: 'Title added. I encountered a temporary issue, sorry',
    }),
    'Title added. ',
  )
  t.equal(visible({ whole: 'Done.' }, { whole: 'i ENCOUNTERED a temporary issue' }), 'Done.')
})

t.test('a temporary issue that is all there was is trouble, and not shown', async t => {
  const troubled = (...texts: [string, boolean][]) => {
    const assembler = createTextAssembler()
    const text = texts.map(text => assembler.push(...text)).join('') + assembler.finish()
    return { text, troubled: assembler.troubled() }
  }
  t.same(troubled([NOISE, false]), { text: '', troubled: true })
  t.same(troubled(['I encountered', true], [' a temporary issue.', true]), { text: '', troubled: true })
  t.same(troubled([' \n', true], [NOISE, true]), { text: ' \n', troubled: true })
  t.same(troubled([`Done. ${NOISE}`, false]), { text: 'Done. ', troubled: false })
  t.same(troubled([NOISE, false], ['All good now.', false]).troubled, false)
  t.same(troubled(['I', true]), { text: 'I', troubled: false })
  t.same(troubled(), { text: '', troubled: false })
})

t.test('the temporary issue is shown when it is not the end', async t => {
  t.equal(
    visible({ whole: `Hm. ${NOISE}` }, 'TURN', { whole: ' All good now.' }),
    `Hm. ${NOISE} All good now.`,
  )
  const long = `Hm. I encountered a temporary issue with clip 2. ${'So I used another clip instead. '.repeat(10)}`
  t.equal(visible({ whole: long }), long, 'a long story')
  t.equal(visible(...long.match(/.{1,7}/gs)!), long, 'in pieces as well')
  t.equal(visible({ whole: 'Hm. AI encountered a temporary issue' }), 'Hm. AI encountered a temporary issue')
  t.equal(visible('Hm. A', 'I encountered a temporary issue'), 'Hm. AI encountered a temporary issue')
})

t.test('what may become the noise is held no longer than needed', async t => {
  t.same(shown(['Done. I', ' will', ' add it']), ['Done. ', 'I will', ' add it', ''])
  t.same(shown(['Done. I']), ['Done. ', 'I'], 'and is given out at the end')
})

t.test('however a turn is cut into partials, the same is shown', async () => {
  const piece = fc.constantFrom(
    'Hi. ',
    'I ',
    'I encountered ',
    'a temporary issue',
    '. ',
    'ok',
    ' ',
    NOISE,
    '🎬',
    'x'.repeat(320),
  )
  const turns = fc.array(
    fc.array(piece, { maxLength: 8 }).map(pieces => pieces.join('')),
    { maxLength: 4 },
  )
  fc.assert(
    fc.property(turns, fc.integer({ min: 1, max: 9 }), (texts, size) => {
      const cut = (text: string) =>
        Array.from({ length: Math.ceil(text.length / size) }, (_, i) => text.slice(i * size, (i + 1) * size))
      const streamed = texts.flatMap((text): Step[] => [...cut(text), { whole: text }])
      return visible(...streamed) === visible(...texts.map(whole => ({ whole })))
    }),
    { numRuns: 600 },
  )
})
