import fc from 'fast-check'
import t from 'tap'
import type { Chunk } from '../../../src/services/events/event.ts'
import { createNarrator, ownMessage } from '../../../src/services/narration/narrator.ts'

const narrator = (language: 'en' | 'zh' = 'en') => createNarrator({ projectId: 'p1', language })

/** What a reader sees: the text of each message, and what is offered. */
function seen(chunks: Chunk[]) {
  const messages: string[] = []
  const offers: unknown[] = []
  for (const chunk of chunks) {
    if (chunk.type === 'TEXT_MESSAGE_START') messages.push('')
    if (chunk.type === 'TEXT_MESSAGE_CONTENT') messages[messages.length - 1] += chunk.delta
    if (chunk.type === 'CUSTOM') offers.push(...(chunk.value as { kind: string }[]).map(({ kind }) => kind))
  }
  return { messages, offers }
}

/** Each message begins, has something to say and ends before the next one begins. */
function legal(chunks: Chunk[]): boolean {
  let open: string | null = null
  for (const chunk of chunks) {
    if (chunk.type === 'TEXT_MESSAGE_START') {
      if (open !== null) return false
      open = chunk.messageId
    } else if (chunk.type === 'TEXT_MESSAGE_CONTENT') {
      if (chunk.messageId !== open || chunk.delta === '') return false
    } else if (chunk.type === 'TEXT_MESSAGE_END') {
      if (chunk.messageId !== open) return false
      open = null
    }
  }
  return open === null
}

const words = (text: string) => text.match(/\S+\s*|\s+/g) ?? []

t.test('sentences are shown as soon as they are whole', async t => {
  const { say, finish, text } = narrator()
  t.same(say('I added', true), [])
  t.same(seen(say(' a title. Now', true)).messages, ['I added a title. '])
  const rest = [...say(' the music.', true), ...say('I added a title. Now the music.', false)]
  t.match(rest, [{ type: 'TEXT_MESSAGE_CONTENT', delta: 'Now the music.' }, { type: 'TEXT_MESSAGE_END' }])
  t.same(finish(), [])
  t.equal(text(), 'I added a title. Now the music.')
})

t.test('a whole text without partials reads the same', async t => {
  const answer = 'I trimmed the clip to 3 s. It starts at the beach. Tell me what to change next.'
  const whole = narrator()
  const chunks = [...whole.say(answer, false), ...whole.finish()]
  t.same(seen(chunks).messages, [answer])
  const streamed = narrator()
  const pieces = words(answer).flatMap(word => streamed.say(word, true))
  t.same(seen([...pieces, ...streamed.say(answer, false), ...streamed.finish()]).messages, [answer])
  t.equal(streamed.text(), whole.text())
})

t.test('words about a screen become something to do', async t => {
  const { say, finish, text } = narrator()
  const answer = 'Your video is ready! Preview in Timeline panel or click Export to save it.'
  const chunks = [...words(answer).flatMap(word => say(word, true)), ...say(answer, false), ...finish()]
  t.same(
    seen(chunks).messages.map(message => message.trim()),
    ['Your video is ready!'],
  )
  t.same(seen(chunks).offers.toSorted(), ['export', 'timeline'])
  t.equal(text(), 'Your video is ready!')
  t.match(chunks.at(-1), {
    name: 'actions',
    value: [{ kind: String, label: String, method: String, href: /^\/v1\/projects\/p1\// }, {}],
  })
  t.ok(legal(chunks))
})

t.test('the same in Chinese', async t => {
  const { say, finish } = narrator('zh')
  const chunks = [...say('您的视频已完成！请在时间线面板中预览，或点击导出按钮保存。', false), ...finish()]
  t.same(seen(chunks).messages, ['您的视频已完成！'])
  t.same(seen(chunks).offers.toSorted(), ['export', 'timeline'])
})

t.test('an answer that only spoke of the screen says nothing', async t => {
  const { say, finish, text } = narrator()
  const chunks = [...say('Click the Export button.', false), ...finish()]
  t.same(seen(chunks), { messages: [], offers: ['export'] })
  t.equal(text(), '')
})

t.test('an answer without text says nothing at all', async t => {
  const { say, endTurn, breathe, finish, text } = narrator()
  t.same([...endTurn(), ...say(' \n', true), ...breathe(), ...say('', false), ...finish()], [])
  t.equal(text(), '')
})

t.test('each turn of the model is a message', async t => {
  const { say, endTurn, finish, text } = narrator()
  const chunks = [
    ...say('I look at the clip', true),
    ...endTurn(),
    ...endTurn(),
    ...say('The raw video is there.', false),
    ...say('Music is added.', false),
    ...finish(),
  ]
  t.same(seen(chunks).messages, ['I look at the clip', 'The raw video is there.', 'Music is added.'])
  t.equal(new Set(chunks.map(chunk => 'messageId' in chunk && chunk.messageId)).size, 3)
  t.ok(legal(chunks))
  t.equal(text(), 'I look at the clip\n\nThe raw video is there.\n\nMusic is added.')
})

t.test('nobody waits for the end of a slow sentence, unless it may turn to the screen', async t => {
  const { say, breathe, finish } = narrator()
  const first = [...say('I am still working on the', true), ...breathe()]
  t.same(seen(first).messages, ['I am still working on the'])
  t.same(breathe(), [], 'once')
  const second = [...say(' colours. Please click', true), ...breathe()]
  t.same(seen([...first, ...second]).messages, ['I am still working on the colours. '])
  const rest = [...say(' the Export button to save.', true), ...finish()]
  t.notMatch(JSON.stringify(rest), /Export button/)
  t.same(seen(rest).offers, ['export'])
  t.ok(legal([...first, ...second, ...rest]))
})

t.test('the trouble that the backend only imagines is not told', async t => {
  const { say, finish, text } = narrator()
  const chunks = [...say('The title is added. I encountered a temporary issue.', false), ...finish()]
  t.same(
    seen(chunks).messages.map(message => message.trim()),
    ['The title is added.'],
  )
  t.equal(text(), 'The title is added.')
  t.ok(legal(chunks))
})

t.test('an answer without end is cut, and ends properly', async t => {
  const { say, finish, text } = narrator()
  const sentence = `${'word '.repeat(2_000)}end. `
  const chunks = [...Array.from({ length: 200 }, () => say(sentence, true)).flat(), ...finish()]
  t.equal(seen(chunks).messages.join('').length, 1024 * 1024)
  t.ok(text().length <= 1024 * 1024)
  t.ok(legal(chunks))
})

t.test('whatever comes, each message begins and ends', async t => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant('say' as const),
      text: fc.oneof(
        fc.constantFrom(
          'Hello. ',
          'click Export',
          ' to save it.',
          'I encountered a temporary issue',
          '\n',
          '“',
          'Dr. ',
        ),
        fc.string({ unit: 'binary' }),
      ),
      partial: fc.boolean(),
    }),
    fc.record({ do: fc.constantFrom('endTurn' as const, 'breathe' as const) }),
  )
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 30 }),
        fc.constantFrom('en' as const, 'zh' as const),
        (steps, language) => {
          const one = narrator(language)
          const chunks = steps.flatMap(step =>
            step.do === 'say' ? one.say(step.text, step.partial) : one[step.do](),
          )
          const all = [...chunks, ...one.finish()]
          const messages = seen(all).messages.map(message => message.trim())
          return (
            legal(all) && one.text() === messages.join('\n\n') && one.finish().every(c => c.type === 'CUSTOM')
          )
        },
      ),
      { numRuns: 100 },
    ),
  )
})

t.test('a message of our own', async t => {
  const chunks = ownMessage('Title added')
  t.same(seen(chunks).messages, ['Title added'])
  t.ok(legal(chunks))
})
