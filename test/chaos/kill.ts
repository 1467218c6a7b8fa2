/**
 * The last part of `npm run chaos`: plays the demo again and again, as `npm start` and `npm run demo` do, and kills the gateway
 * (kill -9, embedded database and sandbox with it) at a random moment of each round, then starts it again.
 * Every demo must end well, with each message sent once and each render submitted once.
 *
 *   node test/chaos/kill.ts [rounds] [seed]
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../src/db/embedded.ts'

const [rounds = 10, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number)
const ROOT = new URL('../../', import.meta.url).pathname
/** The demo takes about 13 s; a kill after its end proves nothing. */
const LAST_MOMENT_MS = 12_000

console.log(`${rounds} rounds, seed ${seed}`)
const random = randomFrom(seed)
let failed = 0
for (let round = 1; round <= rounds; round++) {
  const moment = Math.round(random() * LAST_MOMENT_MS)
  const trouble = await play(moment)
  console.log(`${trouble.length === 0 ? 'ok    ' : 'FAILED'} round ${round}: killed after ${moment} ms`)
  for (const line of trouble) console.log(line)
  if (trouble.length > 0) failed++
}
console.log(`${rounds - failed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

/** One demo with one kill; what went wrong, or nothing. */
async function play(moment: number): Promise<string[]> {
  const dataDir = await mkdtemp(join(tmpdir(), 'reelgate-chaos-'))
  const port = await freePort()
  const start = () => run('src/server.ts', [], { DATA_DIR: dataDir, PORT: String(port), LOG_LEVEL: 'warn' })
  let gateway = start()
  await ready(port)
  const demo = run('demo/demo.ts', [`http://127.0.0.1:${port}`, '--limit', '150'], {})
  await sleep(moment)
  gateway.child.kill('SIGKILL')
  await gateway.ended
  gateway = start()
  const code = await demo.ended
  const trouble = code === 0 ? [] : [demo.output(), gateway.output()]
  trouble.push(...(await judge(join(dataDir, 'sandbox/journal.ndjson'))))
  gateway.child.kill('SIGTERM')
  const ended = await gateway.ended
  if (ended !== 0) trouble.push(`the gateway ended with ${ended}`)
  await rm(dataDir, { recursive: true, force: true, maxRetries: 5 })
  return trouble
}

/** The backend's journal is the ground truth. */
async function judge(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8')
  const journal = text.split('\n').flatMap(line => (line.endsWith('}') ? [JSON.parse(line)] : []))
  const accepted = (endpoint: string) =>
    journal.filter(entry => entry.endpoint === endpoint && entry.accepted)
  const trouble: string[] = []
  const texts = accepted('run').map(entry => entry.text)
  if (texts.length !== 2 || new Set(texts).size !== 2) trouble.push(`messages sent: ${JSON.stringify(texts)}`)
  if (accepted('render').length !== 1) trouble.push(`renders submitted: ${accepted('render').length}`)
  if (accepted('mint').length > 2) trouble.push(`tokens minted: ${accepted('mint').length}`)
  return trouble
}

function run(script: string, args: string[], env: Record<string, string>) {
  const child: ChildProcess = spawn(process.execPath, [join(ROOT, script), ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      text += chunk
    })
  return { child, output: () => text, ended: once(child, 'exit').then(([code, signal]) => code ?? signal) }
}

async function ready(port: number) {
  const answer = () =>
    fetch(`http://127.0.0.1:${port}/readyz`).then(
      response => response.ok,
      () => false,
    )
  while (!(await answer())) await sleep(50)
}

/** A small generator with a seed, so that a round that failed can be played again. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  }
}
