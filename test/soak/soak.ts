/**
 * `npm run soak`: random conversations with a backend in every bad mood. Every run must end in a state that a client
 * knows, no message may be sent twice, every log must be legal AG-UI, and no log may show a tool, a token or a word
 * about the backend's screen.
 *
 *   npm run soak -- [conversations] [seed] [at once]
 */
import { createSandbox } from '../../sandbox/server.ts'
import { createApp } from '../../src/app.ts'
import { readEnv, toConfig } from '../../src/config.ts'
import { databaseUrl, startCluster, TEMPLATE } from '../helpers/cluster.ts'
import { converse } from './conversations.ts'
import { BAD_MOOD, QUICK } from './settings.ts'

const numbers = process.argv.slice(2).map(Number)
const [conversations = 1_000, seed = Date.now() % 1_000_000, parallel = 16] = numbers
const LIMIT_MS = 30 * 60_000

console.log(`${conversations} conversations, seed ${seed}, ${parallel} at once`)
const cluster = await startCluster()
const sandbox = await createSandbox(QUICK)
const config = toConfig({ ...readEnv({}), ...BAD_MOOD })
const urls = { database: databaseUrl(cluster.url, TEMPLATE), upstream: sandbox.url }
const app = await createApp(config, urls)
const url = await app.http.listen({ host: '127.0.0.1', port: 0 })
const tooLong = setTimeout(() => {
  console.error('It takes too long')
  process.exit(1)
}, LIMIT_MS)

const startedAt = performance.now()
const onDone = (done: number) => {
  if (done % 100 === 0)
    console.log(`${done} conversations, ${Math.round((performance.now() - startedAt) / 1000)} s`)
}
const { runs, ends, faults } = await converse({ url, sandbox, conversations, parallel, seed, onDone })
await app.close()
await sandbox.close()
await cluster.stop()
clearTimeout(tooLong)

console.log(`${runs} runs`)
for (const [end, count] of Object.entries(ends).toSorted(([, a], [, b]) => b - a))
  console.log(`  ${count} ${end}`)
for (const fault of faults) console.log(`FAULT ${fault}`)
console.log(faults.length === 0 ? 'all well' : `${faults.length} faults`)
process.exitCode = faults.length === 0 ? 0 : 1
