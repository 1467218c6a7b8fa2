import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { testDatabaseUrl } from '../helpers/database.ts'
import { playDemo } from '../helpers/demo.ts'
import { startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { checkJournal } from '../helpers/journal.ts'
import { startSandbox } from '../sandbox/helpers.ts'

const MESSAGES = [/Urban Dreams/, /music/]

/** A demo that is under way, and a gateway that can be killed and started again on the same port. */
async function setUp(t: Test, speed: object) {
  const sandbox = await startSandbox(t, { speed })
  const env = { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url }
  const gateway = await startGateway(t, env)
  const memory = join(await temporaryFolder(t), 'memory.json')
  const demo = playDemo(t, gateway.url, memory)
  return {
    sandbox,
    gateway,
    memory,
    demo,
    restart: () => startGateway(t, { ...env, PORT: new URL(gateway.url).port }),
  }
}

function checkOnceEach(t: Test, sandbox: Awaited<ReturnType<typeof startSandbox>>) {
  const messages = sandbox.journal().flatMap(entry => (entry.endpoint === 'run' ? [entry.text!] : []))
  t.equal(messages.length, MESSAGES.length, 'as many messages as were asked for')
  for (const [i, message] of MESSAGES.entries()) t.match(messages[i], message)
  checkJournal(t, sandbox, { messages, renders: 1 })
}

t.test('kill -9 while an edit runs: the client reconnects, the edit is found by its effect', async t => {
  const { sandbox, gateway, demo, restart } = await setUp(t, {
    textMs: 500,
    editMs: 1_500,
    renderMs: 500,
    chunkMs: 20,
  })
  await sandboxSaw(sandbox, 'run')
  gateway.kill('SIGKILL')
  await gateway.ended
  await restart()
  t.equal(await demo.ended, 0, demo.output())
  t.match(demo.output(), /0 lost/)
  checkOnceEach(t, sandbox)
})

t.test('kill -9 while the render runs and nobody watches: it is found finished', async t => {
  const { sandbox, gateway, demo, memory, restart } = await setUp(t, {
    textMs: 50,
    editMs: 100,
    renderMs: 3_000,
    chunkMs: 2,
  })
  await demo.tells(/nobody watches/)
  gateway.kill('SIGKILL')
  demo.kill()
  await gateway.ended
  const back = await restart()
  t.match(JSON.parse(await readFile(memory, 'utf8')), { renderId: String, token: /^rg_/ })
  const later = playDemo(t, back.url, memory, ['--resume', memory])
  t.equal(await later.ended, 0, later.output())
  t.match(later.output(), /1 render, .* 0 lost, \d+ kB downloaded/)
  checkOnceEach(t, sandbox)
})

t.test('kill -9 at the moment the render is submitted: the backend sees it once', async t => {
  const { sandbox, gateway, demo, restart } = await setUp(t, {
    textMs: 50,
    editMs: 100,
    renderMs: 1_000,
    chunkMs: 2,
  })
  sandbox.faults.add({ on: 'render', answer: 'hang' })
  await sandboxSaw(sandbox, 'render')
  gateway.kill('SIGKILL')
  await gateway.ended
  await restart()
  t.equal(await demo.ended, 0, demo.output())
  checkOnceEach(t, sandbox)
})

async function sandboxSaw(sandbox: Awaited<ReturnType<typeof startSandbox>>, endpoint: string) {
  while (!sandbox.journal().some(entry => entry.endpoint === endpoint))
    await new Promise(resolve => setTimeout(resolve, 10))
}
