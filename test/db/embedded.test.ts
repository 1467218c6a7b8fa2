import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startEmbedded } from '../../src/db/embedded.ts'
import { temporaryFolder, until } from '../helpers/gateway.ts'

// Most of the time here is spent on waiting for processes.
t.jobs = 3

const EMBEDDED = new URL('../../src/db/embedded.ts', import.meta.url).href
const GATEWAY = `import { startEmbedded } from '${EMBEDDED}'
const { url } = await startEmbedded(process.argv[1])
console.log(url)
setInterval(() => {}, 60_000)`

/** A process that keeps the database of `folder` and does nothing else. */
function spawnGateway(t: Test, folder: string) {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', GATEWAY, folder], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit')
  const kill = async () => {
    child.kill('SIGKILL')
    await exited
  }
  t.teardown(kill)
  const url = async () => {
    let text = ''
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (chunk: Buffer) => {
        text += chunk
      })
    await Promise.race([until(async () => text.includes('postgres://')), exited])
    if (!text.startsWith('postgres://')) throw new Error(text)
    return text.trim()
  }
  return { child, kill, url }
}

const settingsOf = async (folder: string): Promise<{ port: number; keeper: number }> =>
  JSON.parse(await readFile(join(folder, 'postgres.json'), 'utf8'))

const serverOf = async (folder: string) =>
  Number((await readFile(join(folder, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0])

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  // The server may go down under it, which is what some tests do.
  client.on('error', () => {})
  await client.connect()
  const { rows } = await client.query(sql).finally(() => client.end())
  return rows
}

const KEPT = [{ kept: 'what was committed' }]
const write = (url: string) => query(url, `create table notes as select 'what was committed' as kept`)
const read = (url: string) => query(url, 'select kept from notes')

/** Starts it in this process and leaves nothing of it behind. */
async function start(t: Test, folder: string) {
  const embedded = await startEmbedded(folder)
  t.teardown(() => embedded.stop())
  return embedded
}

t.test('one folder, from its first start through what may happen to it', async t => {
  const folder = await temporaryFolder(t)
  const pidFile = join(folder, 'postgres', 'postmaster.pid')

  await t.test('the first start makes it, a stop ends it, the next start finds the data', async t => {
    const first = await startEmbedded(folder)
    await write(first.url)
    const { mode } = await stat(join(folder, 'postgres.json'))
    t.equal(mode & 0o077, 0, 'nobody else reads the password')
    const password = new URL(first.url).password
    const { keeper } = await settingsOf(folder)
    t.notMatch(await readFile(`/proc/${keeper}/cmdline`, 'utf8').catch(() => ''), password)
    await t.rejects(query(first.url.replace(password, 'guessed'), 'select 1'), { code: '28P01' })
    await first.stop()
    await first.stop()
    t.notOk(existsSync(pidFile), 'it was shut down in order')
    await t.rejects(read(first.url), { code: 'ECONNREFUSED' })

    const second = await start(t, folder)
    t.equal(second.url, first.url)
    t.same(await read(second.url), KEPT)
  })

  await t.test('a gateway that was killed', async t => {
    const gateway = spawnGateway(t, folder)
    await gateway.url()
    const server = await serverOf(folder)
    await gateway.kill()
    const { url } = await start(t, folder)
    t.same(await read(url), KEPT)
    t.not(await serverOf(folder), server, 'the old server is gone')
  })

  await t.test('a gateway and a keeper that were killed: their server is told to end', async t => {
    const gateway = spawnGateway(t, folder)
    await gateway.url()
    const { keeper } = await settingsOf(folder)
    const server = await serverOf(folder)
    process.kill(keeper, 'SIGKILL')
    await gateway.kill()
    t.ok(isAlive(server))
    const { url } = await start(t, folder)
    t.same(await read(url), KEPT)
    t.not(await serverOf(folder), server)
  })

  await t.test('a port that somebody took meanwhile', async t => {
    const { port } = await settingsOf(folder)
    const stranger = createServer().listen(port, '127.0.0.1')
    await once(stranger, 'listening')
    t.teardown(() => stranger.close())
    const { url } = await start(t, folder)
    t.not(Number(new URL(url).port), port)
    t.same(await read(url), KEPT)
  })

  await t.test('numbers of processes that belong to another program by now', async t => {
    const stranger = spawn('sleep', ['60'])
    t.teardown(() => stranger.kill())
    const settings = await settingsOf(folder)
    await writeFile(join(folder, 'postgres.json'), JSON.stringify({ ...settings, keeper: stranger.pid }))
    await writeFile(pidFile, `${stranger.pid}\n${join(folder, 'postgres')}\n`)
    const { url } = await start(t, folder)
    t.same(await read(url), KEPT)
    t.ok(stranger.exitCode === null && stranger.signalCode === null, 'it was left alone')
  })

  await t.test('a second gateway is refused, and the first goes on', async t => {
    const { url } = await start(t, folder)
    await t.rejects(startEmbedded(folder), { message: /Another reelgate is running on .*DATABASE_URL/ })
    t.same(await read(url), KEPT)
  })
})

t.test('a gateway that was killed during its first start', async t => {
  const folder = await temporaryFolder(t)
  const gateway = spawnGateway(t, folder)
  await until(() => isInitialising(folder))
  await gateway.kill()
  const { url } = await start(t, folder)
  await write(url)
  t.same(await read(url), KEPT)
})

t.test('everything was killed during the first start: the half-made folder is made anew', async t => {
  const folder = await temporaryFolder(t)
  const gateway = spawnGateway(t, folder)
  await until(() => isInitialising(folder))
  const { keeper } = await settingsOf(folder)
  const all = [gateway.child.pid!, keeper, ...(await descendants(keeper))]
  for (const pid of all) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  await gateway.kill()
  const { url } = await start(t, folder)
  await write(url)
  t.same(await read(url), KEPT)
  t.same((await readdir(folder)).toSorted(), ['postgres', 'postgres.json'])
})

/** initdb has laid out its folder and is filling it. */
async function isInitialising(folder: string): Promise<boolean> {
  const names = (await readdir(folder).catch(() => [])).filter(name => name.startsWith('postgres'))
  return names.some(name => existsSync(join(folder, name, 'postgresql.auto.conf')))
}

async function descendants(pid: number): Promise<number[]> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => ''))
    .split(' ')
    .filter(Boolean)
    .map(Number)
  const below = await Promise.all(children.map(descendants))
  return [...below.flat(), ...children]
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

t.test(
  'as root, a folder that Postgres cannot enter is named',
  { skip: process.getuid?.() !== 0 },
  async t => {
    const folder = await temporaryFolder(t)
    await chmod(folder, 0o700)
    await t.rejects(startEmbedded(join(folder, 'data')), {
      message: new RegExp(`cannot enter ${folder}\\. Run \`chmod o\\+x ${folder}\``),
    })
  },
)
