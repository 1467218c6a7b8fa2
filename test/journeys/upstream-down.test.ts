import pg from 'pg'
import t from 'tap'
import { createSandbox } from '../../sandbox/server.ts'
import { follow, isCustom, runEnded, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { startGateway, temporaryFolder, until } from '../helpers/gateway.ts'
import { checkJournal } from '../helpers/journal.ts'

t.test(
  'with the backend down the gateway starts, answers in problems, and renders go on when it is back',
  async t => {
    const dataDir = await temporaryFolder(t)
    const speed = { textMs: 20, editMs: 50, renderMs: 1_500, chunkMs: 2 }
    let sandbox = await createSandbox({ dataDir, speed })
    const port = Number(new URL(sandbox.url).port)
    const env = { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url }
    await sandbox.close()

    const gateway = await startGateway(t, env)
    t.equal((await fetch(`${gateway.url}/readyz`)).status, 200, 'ready without the backend')
    const alice = await signIn(gateway.url)
    const credits = await alice.get('/v1/credits')
    t.match(credits, { status: 502, code: 'upstream_unavailable', userState: { action: { kind: 'retry' } } })
    t.notMatch(JSON.stringify(credits), new RegExp(`${port}|ECONNREFUSED`), 'no word of where the backend is')

    const empty = await alice.project()
    const live = await follow(t, alice, empty)
    const { run } = await alice.post(`/v1/projects/${empty}/messages`, { text: 'Make it brighter' })
    const { chunk } = await live.next(runEnded(run.id))
    t.match(chunk.value, { state: 'failed', userState: { code: 'upstream_unavailable' } })

    sandbox = await createSandbox({ dataDir, speed, port })
    t.teardown(() => sandbox.close())
    const project = await alice.projectWithClip()
    const { render } = await alice.post(`/v1/projects/${project}/messages`, { text: 'export the video' })
    await until(async () => (await alice.get(`/v1/renders/${render.id}`)).state === 'rendering')
    await sandbox.close()
    await polledAgain(env.DATABASE_URL, render.id)
    t.equal(
      (await alice.get(`/v1/renders/${render.id}`)).state,
      'rendering',
      'silence says nothing about a render',
    )

    sandbox = await createSandbox({ dataDir, speed, port })
    const watching = await follow(t, alice, project, (await alice.log(project))[0].id)
    await watching.next(isCustom('render.updated', value => value.state === 'completed'))
    const file = await fetch(`${gateway.url}/v1/renders/${render.id}/file`, {
      headers: { authorization: `Bearer ${alice.token}`, range: 'bytes=4-7' },
    })
    t.equal(file.status, 206)
    t.equal(await file.text(), 'ftyp', 'an MP4')
    checkJournal(t, sandbox, { messages: [], renders: 1 })
  },
)

/** Resolves when the gateway has asked for the render once more. */
async function polledAgain(databaseUrl: string, renderId: string) {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const nextPoll = async () =>
    String(
      (await client.query('select next_poll_at from renders where id = $1', [renderId])).rows[0].next_poll_at,
    )
  const now = await nextPoll()
  // Once for the claim, once more for what came of it.
  const claimed = await until(async () => ((await nextPoll()) === now ? null : nextPoll()))
  await until(async () => (await nextPoll()) !== claimed)
  await client.end()
}
