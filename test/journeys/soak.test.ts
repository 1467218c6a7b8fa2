import t from 'tap'
import { testApp } from '../helpers/app.ts'
import { converse } from '../soak/conversations.ts'
import { BAD_MOOD, QUICK } from '../soak/settings.ts'

// `npm run soak` is the long form.
t.test('random conversations with a backend in every bad mood', async t => {
  const { url, sandbox } = await testApp(t, { env: BAD_MOOD, sandbox: QUICK })
  const seed = Date.now() % 1_000_000
  const { runs, ends, faults } = await converse({ url, sandbox, conversations: 30, parallel: 10, seed })
  t.strictSame(faults, [], `seed ${seed}`)
  t.ok(runs >= 30)
  t.ok(Object.keys(ends).length >= 3, 'they end in different ways')
})
