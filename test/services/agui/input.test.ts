import t from 'tap'
import { ProblemError } from '../../../src/problems.ts'
import { askedBy, isCurrent } from '../../../src/services/agui/input.ts'

const input = (messages: { role: string; content?: unknown }[], forwardedProps?: unknown) => ({
  threadId: 't',
  runId: 'r',
  messages,
  forwardedProps,
})
const user = (content: unknown) => ({ role: 'user', content })

t.test('the last message of the user counts, whatever comes after it', async t => {
  const asked = askedBy(input([user('first'), user('second'), { role: 'assistant', content: 'no' }]))
  t.strictSame(asked, { text: 'second', intent: 'auto', whenBusy: 'queue' })
  t.equal(askedBy(input([user([{ type: 'text', text: 'one' }])])).text, 'one')
  const parts = [
    { type: 'text', text: 'one' },
    { type: 'text', text: 'two' },
  ]
  t.equal(askedBy(input([user(parts)])).text, 'one\ntwo')
  t.equal(askedBy(input([user('half \ud83c')])).text, 'half \ufffd', 'as it is kept')
})

t.test('an app may say how it is to be taken', async t => {
  t.match(askedBy(input([user('x')], { intent: 'chat', whenBusy: 'reject', theme: 'dark' })), {
    intent: 'chat',
    whenBusy: 'reject',
  })
  for (const props of [null, undefined, {}, [], 'anything', 7])
    t.match(askedBy(input([user('x')], props)), { intent: 'auto', whenBusy: 'queue' })
})

t.test('what holds no sentence is refused', async t => {
  for (const messages of [
    [],
    [{ role: 'assistant', content: 'x' }],
    [user('')],
    [user(' \n')],
    [user(undefined)],
    [user(null)],
    [user(7)],
    [user([])],
    [user([null])],
    [user(['x'])],
    [user([{ type: 'text' }])],
    [user([{ type: 'image', source: {} }])],
    [user('x'.repeat(20_001))],
  ])
    t.throws(() => askedBy(input(messages)), ProblemError, JSON.stringify(messages).slice(0, 60))
  t.throws(() => askedBy(input([user('x')], { intent: 'export' })), /intent/)
})

t.test('only a client of 1.0 names its version', async t => {
  t.equal(isCurrent({ protocolVersion: '1.0' }), true)
  for (const protocolVersion of [undefined, null, '', 1, {}]) t.equal(isCurrent({ protocolVersion }), false)
})
