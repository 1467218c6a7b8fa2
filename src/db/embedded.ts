import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface EmbeddedDatabase {
  url: string
  stop(): Promise<void>
}

const KEEPER = new URL('./embedded-keeper.ts', import.meta.url).pathname

/**
 * Starts a real Postgres under `dataDir`, for development: nothing has to be installed.
 * After a crash of the gateway it waits for the old server to go, ends it if it does not, and starts afresh.
 * `flags` are added to the server's command line. Throws when another live gateway uses the same folder.
 */
export async function startEmbedded(dataDir: string, flags: string[] = []): Promise<EmbeddedDatabase> {
  const databaseDir = join(dataDir, 'postgres')
  await mkdir(databaseDir, { recursive: true })
  await letDatabaseUserIn(dataDir)
  const settings = await readSettings(dataDir)
  await endLeftover(databaseDir, settings.keeper)
  const init = !(await exists(join(databaseDir, 'postgresql.auto.conf')))
  // An initdb that was killed leaves a half-made folder, which it refuses to fill.
  if (init) await rm(databaseDir, { recursive: true, force: true })
  const port = (await isFree(settings.port)) ? settings.port : await freePort()
  const keeper = spawn(
    process.execPath,
    [KEEPER, JSON.stringify({ databaseDir, port, password: settings.password, init, flags })],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Its own process group: Ctrl-C must not end the database before the gateway has drained.
      detached: true,
    },
  )
  await writeFile(
    join(dataDir, 'postgres.json'),
    JSON.stringify({ port, password: settings.password, keeper: keeper.pid }),
    {
      mode: 0o600,
    },
  )
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

/** As root, Postgres runs as the user `postgres`, who must be able to enter the folder. */
async function letDatabaseUserIn(dataDir: string) {
  if (process.getuid?.() === 0) await chmod(dataDir, 0o755)
}

async function readSettings(dataDir: string): Promise<{ port: number; password: string; keeper?: number }> {
  try {
    return JSON.parse(await readFile(join(dataDir, 'postgres.json'), 'utf8'))
  } catch {
    return { port: await freePort(), password: randomBytes(18).toString('base64url') }
  }
}

/** A server whose gateway was killed ends by itself within moments; one whose keeper was killed too is told to. */
async function endLeftover(databaseDir: string, keeper: number | undefined) {
  const pidFile = join(databaseDir, 'postmaster.pid')
  const alive = async () => {
    const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0])
    return pid > 0 && (await isPostgresOf(pid, databaseDir)) ? pid : null
  }
  const waitGone = async (ms: number) => {
    for (const end = Date.now() + ms; Date.now() < end; await sleep(50)) if (!(await alive())) return true
    return false
  }
  if (await waitGone(3_000)) {
    // The pid may belong to another program by now, and Postgres would refuse to start because of it.
    await rm(pidFile, { force: true })
    return
  }
  const pid = await alive()
  if (pid && keeper && isAlive(keeper))
    throw new Error(
      `Another reelgate is running on ${databaseDir}. Stop it, or set DATABASE_URL to share one database.`,
    )
  if (pid) process.kill(pid, 'SIGINT')
  if (!(await waitGone(10_000)))
    throw new Error(`An old Postgres (process ${pid}) still holds ${databaseDir}. End it, then start again.`)
}

async function isPostgresOf(pid: number, databaseDir: string): Promise<boolean> {
  if (!isAlive(pid)) return false
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => null)
  return command === null || command.includes(databaseDir)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
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

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}
