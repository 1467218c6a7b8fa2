import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { follow, runEnded, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { startGateway } from '../helpers/gateway.ts'
import { checkJournal } from '../helpers/journal.ts'
import { startSandbox } from '../sandbox/helpers.ts'

t.test('SIGTERM: sockets are told to come back, a run that can end does, exit 0', async t => {
  const sandbox = await startSandbox(t, { speed: { textMs: 100, editMs: 1_000, chunkMs: 5 } })
  const gateway = await startGateway(t, { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url })
  const alice = await signIn(gateway.url)
  const project = await alice.projectWithClip()
  const live = await follow(t, alice, project)
  const stream = await fetch(`${gateway.url}/v1/projects/${project}/events`, {
    headers: { authorization: `Bearer ${alice.token}`, accept: 'text/event-stream' },
  })
  const silent = connect(Number(new URL(gateway.url).port), '127.0.0.1')
  t.teardown(() => silent.destroy())
  silent.on('error', () => {})
  await once(silent, 'connect')
  const { run } = await alice.post(`/v1/projects/${project}/messages`, {
    text: 'Add a title that says "Bye"',
  })
  await live.next(entry => entry.runId === run.id && entry.chunk.type === 'RUN_STARTED')
  const before = Date.now()
  gateway.kill('SIGTERM')
  t.strictSame(await live.closed, { code: 1012, reason: 'restart' })
  t.match(await stream.text(), /^retry: /, 'the event stream ends cleanly')
  t.equal(await gateway.ended, 0)
  t.ok(Date.now() - before < 25_000)
  checkJournal(t, sandbox, { messages: ['Add a title that says "Bye"'], renders: 0 })
})

t.test('SIGTERM during a run that outlasts it: the next instance takes over', async t => {
  const sandbox = await startSandbox(t, { speed: { textMs: 100, editMs: 20_000, chunkMs: 5 } })
  const env = { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url }
  const gateway = await startGateway(t, env)
  const alice = await signIn(gateway.url)
  const project = await alice.projectWithClip()
  const live = await follow(t, alice, project)
  const { run } = await alice.post(`/v1/projects/${project}/messages`, {
    text: 'Add a title that says "Long"',
  })
  await live.next(entry => entry.runId === run.id && entry.chunk.type === 'RUN_STARTED')
  gateway.kill('SIGTERM')
  t.equal(await gateway.ended, 0)

  const next = await startGateway(t, { ...env, RECONCILE_EVERY_MS: '3000' })
  const back = alice.at(next.url)
  const after = (await back.log(project))[0].id
  const { chunk } = await (await follow(t, back, project, after)).next(runEnded(run.id))
  t.match(chunk.value, { state: 'completed', outcome: 'edited', summary: /Long/ })
  checkJournal(t, sandbox, { messages: ['Add a title that says "Long"'], renders: 0 })
})
