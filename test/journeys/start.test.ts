import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { signIn } from '../helpers/client.ts'
import { startGateway, temporaryFolder, until } from '../helpers/gateway.ts'

t.test('with nothing configured: an embedded database and the sandbox, which outlive a kill -9', async t => {
  const dataDir = await temporaryFolder(t)
  const env = { DATA_DIR: dataDir, TOKEN_KEYS: '' }
  const first = await startGateway(t, env)
  await until(async () => first.output().includes('Try next'))
  t.match(first.output(), /SANDBOX plays the backend/)
  t.match(first.output(), /embedded Postgres/)
  const alice = await signIn(first.url)
  const project = await alice.projectWithClip()
  t.match(await alice.get(`/v1/projects/${project}/timeline`), { exportable: true })
  first.kill('SIGKILL')
  await first.ended

  const second = await startGateway(t, env)
  const back = alice.at(second.url)
  t.match(await back.get(`/v1/projects/${project}/timeline`), { exportable: true, durationMs: 5_000 })
  t.match(await back.get('/v1/me'), { upstream: { kind: 'anonymous', state: 'ready' } })
  second.kill('SIGTERM')
  t.equal(await second.ended, 0)
  await t.rejects(stat(join(dataDir, 'postgres/postmaster.pid')), 'the database was stopped')
})
