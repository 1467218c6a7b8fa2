import t from 'tap'
import { problemOf, setStage } from './uploads/stage.ts'

t.test('a guest sees what is left and where to register, with what was made kept', async t => {
  const { credits, alice, sandbox, project, projects } = await setStage(t)
  const before = await credits.read(alice, 'en')
  t.match(before, { available: 100, frozen: 0, total: 100 })
  await projects.call(project, alice, async () => ({ kind: 'ok', value: null }))
  const userId = sandbox.state.world.accounts[0]!.userId
  t.strictSame((await credits.read(alice, 'en')).links, {
    register: `https://nemovideo.example/register?bind=${userId}`,
  })
})

t.test('a registered account is sent to where credits are bought', async t => {
  const { credits, alice, db } = await setStage(t)
  await credits.read(alice, 'en')
  await db.execute(`update upstream_accounts set kind = 'linked' where user_id = '${alice.userId}'`)
  const { links } = await credits.read(alice, 'en')
  t.strictSame(Object.keys(links), ['topUp'])
  t.match(links.topUp, /^https:\/\/nemovideo\.example\//)
})

t.test('a dead token is replaced, and an upstream that is down is a problem', async t => {
  const { credits, alice, sandbox } = await setStage(t)
  await credits.read(alice, 'en')
  sandbox.faults.revokeToken('all')
  t.match(await credits.read(alice, 'en'), { total: 100 })
  sandbox.faults.add({ on: 'credits', answer: 'html', status: 502 })
  t.match(await problemOf(credits.read(alice, 'zh-CN')), {
    code: 'upstream_unavailable',
    userState: { message: /[一-龥]/ },
  })
})
