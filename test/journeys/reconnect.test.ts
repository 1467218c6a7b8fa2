import { EventSchemas } from '@ag-ui/core/schemas'
import t from 'tap'
import { follow, isCustom, type Json, runEnded, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { startGateway } from '../helpers/gateway.ts'
import { startSandbox } from '../sandbox/helpers.ts'

t.test('a client that is cut off after every single event misses none and sees none twice', async t => {
  const sandbox = await startSandbox(t, { speed: { textMs: 50, editMs: 200, renderMs: 400, chunkMs: 5 } })
  const gateway = await startGateway(t, { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url })
  const alice = await signIn(gateway.url)
  const project = await alice.projectWithClip()
  let cursor = (await alice.get(`/v1/projects/${project}`)).cursor
  const from = (await alice.log(project)).length

  const seen: Json[] = []
  const ended = runToEnd()
  for (let over = false; !over; ) {
    const live = await follow(t, alice, project, cursor)
    const entry = await live.next(() => true)
    live.close()
    seen.push(entry)
    cursor = entry.id
    over = isCustom('render.updated', render => render.state === 'completed')(entry)
  }
  await ended

  const log = (await alice.log(project)).slice(from)
  t.strictSame(seen, log.slice(0, seen.length))
  t.ok(seen.length > 15, `${seen.length} reconnects`)
  for (const { chunk } of log) t.ok(EventSchemas.safeParse(chunk).success, `${chunk.type} is AG-UI`)

  async function runToEnd() {
    const messages = `/v1/projects/${project}/messages`
    const live = await follow(t, alice, project)
    const { run } = await alice.post(messages, { text: 'Add a title that says "Again"' })
    await live.next(runEnded(run.id))
    await alice.post(messages, { text: '导出视频' })
  }
})
