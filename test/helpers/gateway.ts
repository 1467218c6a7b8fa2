import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

const SERVER = new URL('../../src/server.ts', import.meta.url).pathname

export interface Gateway {
  url: string
  process: ChildProcess
  /** All that it printed so far. */
  output(): string
  kill(signal: NodeJS.Signals): void
  /** Resolves to the exit code, or to the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>
}

/** Times short enough for a test; everything else as in production. */
export const FAST = {
  RENDER_POLL_MS: '200',
  RATE_LIMIT_RETRY_MS: '200',
  RECONCILE_FIRST_MS: '200',
  RECONCILE_EVERY_MS: '200',
  SILENT_END_MS: '400',
  // Everything in a test comes from one address.
  RATE_LIMIT_PER_MINUTE: '1000000',
  GUESTS_PER_MINUTE: '1000000',
  ...(process.env.EVENTS_HINTS && { EVENTS_HINTS: process.env.EVENTS_HINTS }),
}

export const TEST_KEYS = `test:${Buffer.alloc(32, 7).toString('base64')}`

/** What a process needs of the one that starts it. */
const { PATH, NODE_COMPILE_CACHE, NODE_OPTIONS } = process.env
export const MACHINE = {
  PATH,
  ...(NODE_COMPILE_CACHE && { NODE_COMPILE_CACHE }),
  ...(NODE_OPTIONS && { NODE_OPTIONS }),
}

/** Starts the gateway as its own process, as `npm start` does, and waits until it listens. */
export async function startGateway(
  t: Test,
  env: Record<string, string>,
  options: { server?: string; cwd?: string } = {},
): Promise<Gateway> {
  const gateway = spawnGateway(t, { DATA_DIR: await temporaryFolder(t), ...env }, options)
  gateway.url = await listening(gateway)
  return gateway
}

/** The same without waiting: for those that are not meant to start. */
export function spawnGateway(
  t: Test,
  env: Record<string, string>,
  { server = SERVER, cwd }: { server?: string; cwd?: string } = {},
): Gateway {
  const child = spawn(process.execPath, [server], {
    env: { ...MACHINE, HOST: '127.0.0.1', PORT: '0', TOKEN_KEYS: TEST_KEYS, ...FAST, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(cwd ? { cwd } : {}),
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      text += chunk
    })
  const ended = once(child, 'exit').then(([code, signal]) => code ?? signal)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { url: '', process: child, output: () => text, kill: signal => child.kill(signal), ended }
}

async function listening(gateway: Gateway): Promise<string> {
  const address = /Server listening at (http:\/\/[\d.]+:\d+)/
  while (true) {
    const url = address.exec(gateway.output())?.[1]
    if (url) return url
    const { stdout } = gateway.process
    const next = await Promise.race([once(stdout!, 'data').then(() => null), gateway.ended])
    if (next !== null) throw new Error(`The gateway ended with ${next}:\n${gateway.output()}`)
  }
}

/** A folder of its own, away from the checkout, removed when the test ends. */
export async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `reelgate-${randomBytes(3).toString('hex')}-`))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
  return folder
}

/** Asks until the answer is what the test waits for; fails after `limitMs`. */
export async function until<T>(
  ask: () => Promise<T | undefined | null | false>,
  limitMs = 20_000,
): Promise<T> {
  for (const end = Date.now() + limitMs; ; await new Promise(resolve => setTimeout(resolve, 25))) {
    const answer = await ask()
    if (answer) return answer
    if (Date.now() > end) throw new Error(`What the test waits for did not come in ${limitMs} ms`)
  }
}
