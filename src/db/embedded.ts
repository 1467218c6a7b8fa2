import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

export interface EmbeddedDatabase {
  url: string
  stop(): Promise<void>
}

const KEEPER = new URL('./embedded-keeper.ts', import.meta.url).pathname
/** How soon a keeper notices that its gateway is gone. */
const KEEPER_MS = 3_000
const LEFTOVER_MS = 30_000

/**
 * Starts a real Postgres under `dataDir`, for development: nothing has to be installed.
 * After a crash of the gateway it waits for the old server to go, ends it if it does not, and starts afresh.
 * `flags` are added to the server's command line. Throws when another live gateway uses the same folder.
 */
export async function startEmbedded(dataDir: string, flags: string[] = []): Promise<EmbeddedDatabase> {
  const databaseDir = join(dataDir, 'postgres')
  await mkdir(dataDir, { recursive: true })
  await letDatabaseUserIn(dataDir)
  const settings = await readSettings(dataDir)
  await endLeftover(databaseDir, settings.keeper)
  const init = !(await exists(join(databaseDir, 'postgresql.auto.conf')))
  if (init) await rm(databaseDir, { recursive: true, force: true })
  const port = (await isFree(settings.port)) ? settings.port : await freePort()
  const keeper = spawn(process.execPath, [KEEPER, JSON.stringify({ databaseDir, port, init, flags })], {
    stdio: ['pipe', 'pipe', 'pipe'],
    // Not an argument: every user of the machine can read those.
    env: { ...process.env, REELGATE_DATABASE_PASSWORD: settings.password },
    // Its own process group: Ctrl-C must not end the database before the gateway has drained.
    detached: true,
  })
  await writeSettings(dataDir, { port, password: settings.password, keeper: keeper.pid })
  await ready(keeper)
  return {
    url: `postgres://reelgate:${settings.password}@127.0.0.1:${port}/postgres`,
    stop: async () => {
      if (keeper.exitCode !== null || keeper.signalCode !== null) return
      const gone = once(keeper, 'exit')
      keeper.stdin?.end()
      await gone
    },
  }
}

async function ready(keeper: ChildProcess): Promise<void> {
  let log = ''
  keeper.stderr?.on('data', (chunk: Buffer) => {
    log = (log + chunk).slice(-4_000)
  })
  const [first] = await Promise.race([once(keeper.stdout!, 'data'), once(keeper, 'exit')])
  if (String(first).startsWith('ready')) return
  throw new Error(`The embedded Postgres did not start:\n${log}`)
}

/** As root, Postgres runs as the user `postgres`, who must be able to enter its folders. */
async function letDatabaseUserIn(dataDir: string) {
  if (process.getuid?.() !== 0) return
  await chmod(dataDir, 0o755)
  for (const path of [resolve(dataDir), KEEPER])
    for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder))
      if (!((await stat(folder)).mode & 0o001))
        throw new Error(
          `As root, Postgres runs as the user postgres, who cannot enter ${folder}. Run \`chmod o+x ${folder}\`, use another folder, or set DATABASE_URL.`,
        )
}

interface Settings {
  port: number
  password: string
  keeper?: number | undefined
}

async function readSettings(dataDir: string): Promise<Settings> {
  try {
    return JSON.parse(await readFile(join(dataDir, 'postgres.json'), 'utf8'))
  } catch {
    return { port: await freePort(), password: randomBytes(18).toString('base64url') }
  }
}

/** In one piece: a crash halfway would lose the password of the data. */
async function writeSettings(dataDir: string, settings: Settings) {
  const path = join(dataDir, 'postgres.json')
  await writeFile(`${path}.new`, JSON.stringify(settings), { mode: 0o600 })
  await rename(`${path}.new`, path)
}

/**
 * A keeper whose gateway was killed ends by itself, and its server with it; a server without a keeper is told to.
 * Only a server that goes on serving under a live keeper belongs to another gateway.
 */
async function endLeftover(databaseDir: string, keeper: number | undefined) {
  const pidFile = join(databaseDir, 'postmaster.pid')
  let servesSince: number | null = null
  let told = false
  for (const end = Date.now() + LEFTOVER_MS; ; await sleep(50)) {
    const lines = (await readFile(pidFile, 'utf8').catch(() => '')).split('\n')
    const pid = Number(lines[0])
    const server = pid > 0 && (await isOf(databaseDir, pid))
    const kept = keeper !== undefined && (await isOf(databaseDir, keeper))
    if (!server && !kept) break
    if (server && !kept && !told) told = tell(pid, 'SIGINT')
    const serves = server && kept && lines[7]?.trim() === 'ready'
    servesSince = serves ? (servesSince ?? Date.now()) : null
    if (servesSince !== null && Date.now() - servesSince > KEEPER_MS)
      throw new Error(
        `Another reelgate is running on ${databaseDir}. Stop it, or set DATABASE_URL to share one database.`,
      )
    if (Date.now() > end)
      throw new Error(
        `Process ${server ? pid : keeper} still holds ${databaseDir}. End it, then start again.`,
      )
  }
  // The pid in it may belong to another program by now, and Postgres would refuse to start because of it.
  await rm(pidFile, { force: true })
}

/** Whether the process is alive and one of ours: a number may belong to another program after a restart. */
async function isOf(databaseDir: string, pid: number): Promise<boolean> {
  if (!tell(pid, 0)) return false
  // Linux has /proc, the others have ps.
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8')
    .catch(async () => (await promisify(execFile)('ps', ['-o', 'command=', '-p', String(pid)])).stdout)
    .catch(() => '')
  return command.includes(databaseDir)
}

/** False when there is no such process. */
function tell(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

const exists = (path: string) =>
  readFile(path).then(
    () => true,
    () => false,
  )

async function isFree(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return false
  } catch {
    return true
  } finally {
    socket.destroy()
  }
}

/** A port that nothing listens on right now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}
