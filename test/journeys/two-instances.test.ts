import t from 'tap'
import { logWriter } from '../helpers/app.ts'
import { asUser, follow, isCustom, type Json, runEnded, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { startGateway, until } from '../helpers/gateway.ts'
import { checkJournal } from '../helpers/journal.ts'
import { startSandbox } from '../sandbox/helpers.ts'

t.test('two gateways on one database are one gateway', async t => {
  const sandbox = await startSandbox(t, { speed: { textMs: 100, editMs: 200, renderMs: 600, chunkMs: 5 } })
  const env = { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url }
  const [a, b] = await Promise.all([startGateway(t, env), startGateway(t, env)])
  const alice = await signIn(a.url)
  const there = asUser(b.url, alice.token, alice.userId)
  const project = await alice.projectWithClip()
  const start = (await alice.get(`/v1/projects/${project}`)).cursor
  const [live, liveThere] = await Promise.all([
    follow(t, alice, project, start),
    follow(t, there, project, start),
  ])

  const texts = ['Add a title that says "One"', 'Add calm background music', 'Trim the clip to four seconds']
  const send = (client: typeof alice, text: string) =>
    client.post(`/v1/projects/${project}/messages`, { text })
  const runs = []
  for (const [i, text] of texts.entries()) runs.push((await send(i % 2 ? there : alice, text)).run)
  await Promise.all(runs.map(run => live.next(runEnded(run.id))))
  const { render } = await send(there, 'export the video')
  await live.next(isCustom('render.updated', value => value.id === render.id && value.state === 'completed'))
  const last = live.entries.at(-1).seq
  await liveThere.next(entry => entry.seq === last)

  t.strictSame(
    liveThere.entries.filter(entry => entry.seq <= last),
    live.entries.filter(entry => entry.seq <= last),
    'a client of either sees the same log',
  )
  t.strictSame(
    live.entries.map(entry => entry.seq),
    live.entries.map((_, i) => live.entries[0].seq + i),
    'without a gap',
  )
  checkJournal(t, sandbox, { messages: texts, renders: 1 })
  t.equal(sandbox.journal().filter(entry => entry.endpoint === 'mint').length, 1, 'one token for one user')
  t.equal(
    sandbox.journal().filter(entry => entry.endpoint === 'session').length,
    1,
    'one session for one project',
  )
})

for (const EVENTS_HINTS of ['true', 'false'])
  t.test(
    `an instance dies with readers on it, hints ${EVENTS_HINTS}: elsewhere they miss nothing`,
    async t => {
      const sandbox = await startSandbox(t, { speed: { textMs: 2_000, editMs: 200, chunkMs: 5 } })
      const env = { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url, EVENTS_HINTS }
      const [a, b] = await Promise.all([startGateway(t, env), startGateway(t, env)])
      const alice = await signIn(a.url)
      const project = await alice.projectWithClip()
      const start = (await alice.get(`/v1/projects/${project}`)).cursor
      const first = (await alice.log(project)).length
      const readers = await Promise.all(
        Array.from({ length: 8 }, () => follow(t, alice.at(b.url), project, start)),
      )
      // Whichever works on it: what was said before the other one dies must not be lost.
      const { run } = await alice.post(`/v1/projects/${project}/messages`, { text: 'What can you do?' })
      await Promise.all(readers.map(({ next }) => next(entry => entry.chunk.type === 'TEXT_MESSAGE_CONTENT')))
      b.kill('SIGKILL')
      await Promise.all(readers.map(({ closed }) => closed))
      // Before they are back.
      await (await logWriter(t, env.DATABASE_URL))(project, 3)

      const back = await Promise.all(
        readers.map(({ entries }) => follow(t, alice, project, entries.at(-1).id)),
      )
      await until(async () => (await alice.get(`/v1/runs/${run.id}`)).finishedAt, 40_000)
      const log = (await alice.log(project)).slice(first)
      const last = log.at(-1).seq
      const over = (entries: Json[]) => entries.some(({ seq }) => seq >= last)
      await until(async () => back.every(({ entries }, i) => over(entries) || over(readers[i]!.entries)))
      for (const [i, { entries }] of back.entries()) {
        const seen = [...readers[i]!.entries, ...entries]
        t.strictSame(seen, log.slice(0, seen.length), 'none lost, none twice')
      }
    },
  )

t.test('an instance dies in the middle of a run: the other one finds out what became of it', async t => {
  const sandbox = await startSandbox(t, { speed: { textMs: 100, editMs: 1_500, chunkMs: 5 } })
  const env = { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url }
  const [a, b] = await Promise.all([startGateway(t, env), startGateway(t, env)])
  const alice = await signIn(a.url)
  const project = await alice.projectWithClip()
  const live = await follow(t, alice.at(b.url), project)
  const { run } = await alice.post(`/v1/projects/${project}/messages`, {
    text: 'Add a title that says "Still here"',
  })
  await live.next(entry => entry.runId === run.id && entry.chunk.type === 'RUN_STARTED')
  const started = await alice.at(b.url).get(`/v1/runs/${run.id}`)
  t.equal(started.state, 'running')
  a.kill('SIGKILL')

  const { chunk } = await live.next(runEnded(run.id))
  t.match(chunk.value, { state: 'completed', outcome: 'edited', summary: /Still here/ })
  const chunks = live.entries.filter(entry => entry.runId === run.id).map(entry => entry.chunk.type)
  t.equal(chunks[0], 'RUN_STARTED')
  t.equal(chunks.at(-1), 'RUN_FINISHED')
  checkJournal(t, sandbox, { messages: ['Add a title that says "Still here"'], renders: 0 })
})
