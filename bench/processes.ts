import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

const TICKS_PER_SECOND = 100

/** Whoever started them may fail or be stopped at any point. */
const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

export interface Server {
  child: ChildProcess
  url: string
  stop(): Promise<void>
}

/** Starts a script of this folder's and waits until it says where it listens. */
export async function serve(
  script: string,
  env: Record<string, string | undefined>,
  flags: string[] = [],
): Promise<Server> {
  const child = spawn(process.execPath, [...flags, new URL(script, import.meta.url).pathname], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const server = owned(child)
  let text = ''
  const listening = new Promise<string>((resolve, reject) => {
    child.once('exit', code => reject(new Error(`${script} ended with ${code}:\n${text}`)))
    child.stdout.on('data', chunk => {
      if (text.length < 10_000) text += chunk
      const url = /Server listening at (\S+?)["\s]/.exec(text)?.[1]
      if (url) resolve(url)
    })
  })
  return { ...server, url: await listening }
}

/** A process that ends with this one. */
export function owned(child: ChildProcess): Omit<Server, 'url'> {
  running.add(child)
  child.once('exit', () => running.delete(child))
  const stop = async () => {
    const gone = once(child, 'exit')
    child.kill('SIGTERM')
    const force = setTimeout(() => child.kill('SIGKILL'), 5_000)
    await gone
    clearTimeout(force)
  }
  return { child, stop }
}

/** User and system time of a process so far (Linux). */
export async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** Of all processes below it, those that have ended and were waited for included. */
export async function cpuSecondsBelow(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ')
  let sum = [11, 12, 13, 14].reduce((sum, i) => sum + Number(fields[i]), 0) / TICKS_PER_SECOND
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '')
    if (stat.split(') ')[1]?.split(' ')[1] === String(pid))
      sum += await cpuSeconds(Number(entry)).catch(() => 0)
  }
  return sum
}

/** The process that all others of an embedded Postgres are children of. */
export async function postmasterOf(dataDir: string): Promise<number> {
  return Number((await readFile(join(dataDir, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0])
}

/** MiB now, and at the most so far. */
export async function memory(pid: number): Promise<{ now: number; peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const of = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024
  return { now: of('VmRSS'), peak: of('VmHWM') }
}
