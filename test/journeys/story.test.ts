import { join } from 'node:path'
import t from 'tap'
import { testDatabaseUrl } from '../helpers/database.ts'
import { playDemo } from '../helpers/demo.ts'
import { startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { checkJournal } from '../helpers/journal.ts'
import { startSandbox } from '../sandbox/helpers.ts'

const SPEED = { textMs: 100, editMs: 300, renderMs: 1_500, chunkMs: 5 }

t.test('the demo: upload, edit, a silent edit, export, leave, come back, download', async t => {
  const sandbox = await startSandbox(t, { speed: SPEED })
  const gateway = await startGateway(t, {
    DATABASE_URL: await testDatabaseUrl(t),
    NEMO_API_URL: sandbox.url,
  })
  const demo = playDemo(t, gateway.url, join(await temporaryFolder(t), 'memory.json'))
  t.equal(await demo.ended, 0, demo.output())
  t.match(demo.output(), /2 edits \(1 silent\), 1 render, \d+ events, 0 lost, \d+ kB downloaded/)

  const messages = sandbox.journal().flatMap(entry => (entry.endpoint === 'run' ? [entry.text!] : []))
  t.equal(messages.length, 2)
  checkJournal(t, sandbox, { messages, renders: 1 })

  const log = gateway.output()
  t.match(log, /"route":"\/v1\/projects\/:id\/messages","status":202/, 'one line a request, with the pattern')
  t.notMatch(log, /nmv_usr_|rg_[\w-]{20}|Urban Dreams|Bearer/, 'no token and no body in the log')
  gateway.kill('SIGTERM')
  t.equal(await gateway.ended, 0)
})
