import t from 'tap'
import { words } from '../../sandbox/stream.ts'
import { draftIn, framesOf, signIn, startSandbox, textOf } from './helpers.ts'

t.test('frames are those of ADK', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const whole = await (await alice.run('hello')).text()
  const streamed = await (await alice.run('hello', { streaming: true })).text()
  t.match(framesOf(whole), [{ author: 'nemo_agent', content: { role: 'model' }, finishReason: 'STOP' }])
  t.notMatch(whole, /"partial"/)

  const frames = framesOf(streamed)
  t.ok(frames.length > 10)
  t.equal(textOf(frames, true), textOf(frames, false), 'the words together are the whole')
  t.equal(textOf(frames, false), textOf(framesOf(whole), false), 'the same text either way')
  t.notMatch(streamed, /^(id|event):/m)
  t.match(framesOf(await (await alice.run('add music')).text()), [
    { content: { role: 'model', parts: [{ functionCall: { name: 'edit_multitrack' } }] } },
    { author: 'nemo_agent', content: { role: 'user', parts: [{ functionResponse: {} }] } },
    { content: { role: 'model', parts: [{ text: /Lo-fi/ }] } },
  ])
})

t.test('a thought is marked as one', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const frames = framesOf(await (await alice.run('hello', { streaming: true })).text())
  t.match(frames[0], { partial: true, content: { parts: [{ thought: true }] } })
  t.match(frames.at(-1), { content: { parts: [{ thought: true }, { text: /^I can/ }] } })
})

t.test('long waits have heartbeats of both kinds', async t => {
  const sandbox = await startSandbox(t, { speed: { editMs: 60, heartbeatMs: 10 } })
  const alice = await signIn(sandbox.url)
  const body = await (await alice.run('add music')).text()
  t.match(body, /^: heartbeat\n\n/m)
  t.match(body, /^data:\n\n/m)
})

t.test('the draft in a frame is the text of the state', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const body = await (await alice.run('add music')).text()
  const draft = draftIn((await alice.state()).text)
  t.ok(body.includes(`"stateDelta":{"draft":${draft}}`))
  t.not(JSON.stringify(JSON.parse(draft)), draft, 'it does not survive a parse')
})

t.test('words keep every character', async t => {
  for (const text of ['I can  do\nit. ', ' 已添加标题“A b”。', 'e\u0301 👩‍🚀 ok', ''])
    t.equal(words(text).join(''), text)
})
