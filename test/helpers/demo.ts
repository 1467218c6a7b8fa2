import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Test } from 'tap'

const DEMO = new URL('../../demo/demo.ts', import.meta.url).pathname

export interface Demo {
  output(): string
  kill(): void
  ended: Promise<number | NodeJS.Signals>
  /** Resolves when the story has told `text`. */
  tells(text: string | RegExp): Promise<void>
}

/** Plays the demo as its own process. `memory` is where it writes down what a client keeps while it is away. */
export function playDemo(t: Test, url: string, memory: string, args: string[] = []): Demo {
  const child = spawn(process.execPath, [DEMO, url, '--limit', '60', '--away', '1', ...args], {
    env: { PATH: process.env.PATH, DEMO_MEMORY: memory },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      text += chunk
    })
  const ended = once(child, 'exit').then(([code, signal]) => code ?? signal)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return {
    output: () => text,
    kill: () => child.kill('SIGKILL'),
    ended,
    async tells(wanted) {
      const said = () => (typeof wanted === 'string' ? text.includes(wanted) : wanted.test(text))
      while (!said()) {
        const next = await Promise.race([once(child.stdout, 'data').then(() => null), ended])
        if (next !== null && !said()) throw new Error(`The demo ended before it told ${wanted}:\n${text}`)
      }
    },
  }
}
