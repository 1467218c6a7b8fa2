/**
 * `npm run attack`: third-party tools against a local production start, one line each. A tool that is not installed
 * is skipped and said so; on Debian: apt-get install slowhttptest sqlmap wapiti ffuf. Everything stays on 127.0.0.1.
 * For Linux: what is left of a connection is read from /proc. It takes six minutes.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSandbox } from '../../sandbox/server.ts'
import { startEmbedded } from '../../src/db/embedded.ts'

const SERVER = new URL('../../src/server.ts', import.meta.url).pathname
const ROOT = new URL('../../', import.meta.url).pathname
const FUZZ = 'test/security/malformed.test.ts'
const LIMIT_MS = 240_000
/** What every scanner looks for, and what this gateway might have shown by mistake. */
const WORDS =
  'admin api api-docs actuator .env .git/config .git/HEAD backup config console dashboard db debug debug/pprof docs dump favicon.ico graphql healthz heapdump index.html info internal login logs metrics node_modules openapi.json ops ops/v1 ops/v1/accounts ops/v1/overview ops/v1/renders ops/v1/runs package.json phpmyadmin private readyz robots.txt server-status src/server.ts static status swagger swagger.json test trace uploads v1 v1/admin v1/auth v1/users v2 wp-admin'
/** A header that browsers have given up, and that was a hole in some of them. Whatever else a tool finds is a failure. */
const ACCEPTED = new Set(['X-XSS-Protection is not set'])
const KNOWN = new Set(['docs', 'healthz', 'readyz', 'openapi.json'])

const folder = await mkdtemp(join(tmpdir(), 'reelgate-attack-'))
const postgres = await startEmbedded(folder)
const sandbox = await createSandbox({})
const gateway = spawn(process.execPath, [SERVER], {
  env: {
    PATH: process.env.PATH,
    NODE_ENV: 'production',
    PORT: '0',
    DATABASE_URL: postgres.url,
    NEMO_API_URL: sandbox.url,
    TOKEN_KEYS: `attack:${Buffer.alloc(32, 1).toString('base64')}`,
    // The tools are to meet the routes, not the limits.
    RATE_LIMIT_PER_MINUTE: '10000000',
    GUESTS_PER_MINUTE: '10000000',
  },
  stdio: ['ignore', 'pipe', 'inherit'],
})
let log = ''
gateway.stdout.on('data', chunk => {
  log += chunk
})
while (!/Server listening at http/.test(log)) await once(gateway.stdout, 'data')
const url = /Server listening at (http:\/\/[\d.]+:\d+)/.exec(log)![1]!
const { token } = (await (
  await fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"delivery":"bearer"}',
  })
).json()) as { token: string }

let failed = false
function tell(name: string, passed: boolean | null, what: string) {
  failed ||= passed === false
  console.log(`${passed === null ? 'skip' : passed ? 'pass' : 'FAIL'}  ${name.padEnd(30)} ${what}`)
}

/** What each kind of slowness asks, and after how many seconds all of its connections have ended. */
const SLOWNESS: Record<string, [promised: number, args: string[]]> = {
  'slow headers': [20, ['-H', '-t', 'GET', '-u', `${url}/v1/me`]],
  'slow body': [30, ['-B', '-t', 'POST', '-f', 'application/json', '-u', `${url}/v1/projects`]],
  'slow body, open route': [30, ['-B', '-t', 'POST', '-f', 'application/json', '-u', `${url}/v1/auth/guest`]],
  'slow reading': [200, ['-X', '-t', 'GET', '-u', `${url}/openapi.json`]],
}
const port = Number(new URL(url).port)
/** The tool's probe, and what this script has open. */
const OWN = 2
for (const [mode, [promised, args]] of Object.entries(SLOWNESS)) {
  const since = Date.now()
  const seconds = () => Math.round((Date.now() - since) / 1_000)
  let most = 0
  let heldUntil = 0
  const watching = setInterval(async () => {
    const held = await connectionsTo(port)
    most = Math.max(most, held)
    if (held > OWN) heldUntil = seconds()
  }, 1_000)
  const ends = ['-c', '200', '-r', '100', '-i', '5', '-l', String(promised + 10), '-p', '3']
  const output = await run('slowhttptest', [...args, ...ends])
  clearInterval(watching)
  if (output === null) {
    tell(`slowhttptest, ${mode}`, null, 'not installed')
    continue
  }
  const available = !/service available:\s+NO/.test(output) && /service available:\s+YES/.test(output)
  // Not what the tool sees: a reader that has not read up to the end of its connection does not know of it.
  const gone = most > OWN && heldUntil <= promised
  tell(
    `slowhttptest, ${mode}`,
    available && gone,
    `${available ? 'always available' : 'NOT available'}, ${most} connections held at once, ${
      gone ? `all gone after ${heldUntil} s` : `some still there after ${promised} s`
    }`,
  )
}

for (const path of ['/v1/projects?limit=5&after=x', '/v1/renders?limit=5&after=x&state=queued&projectId=x']) {
  const names = [...new URL(path, url).searchParams.keys()]
  const output = await run('sqlmap', [
    ...[
      '-u',
      `${url}${path}`,
      '--headers',
      `Authorization: Bearer ${token}`,
      '--batch',
      '--disable-coloring',
    ],
    ...['--level', '2', '--risk', '2', '--dbms', 'postgresql', '--flush-session', '--output-dir', folder],
    ...['--ignore-code', '400,404', '--threads', '4', '-p', names.join()],
  ])
  const name = `sqlmap, ${path.split('?')[0]}`
  if (output === null) tell(name, null, 'not installed')
  else if (/is vulnerable|injection point/.test(output)) tell(name, false, 'found an injection')
  else
    tell(
      name,
      /do not appear to be injectable/.test(output),
      `${names.length} parameters: ${/do not appear to be injectable/.test(output) ? 'none injectable' : 'it came to no end'}`,
    )
}

const report = join(folder, 'wapiti.json')
const wapiti = await run('wapiti', [
  ...['-u', `${url}/docs/`, '--scope', 'domain', '--flush-session', '-f', 'json', '-o', report],
  ...['-H', `Authorization: Bearer ${token}`, '--max-scan-time', '60', '--no-bugreport', '-v', '0'],
])
if (wapiti === null) tell('wapiti', null, 'not installed')
else {
  const { vulnerabilities = null } = JSON.parse(await readFile(report, 'utf8').catch(() => '{}'))
  const found = Object.values<{ info: string; path: string }[]>(vulnerabilities ?? {}).flat()
  tell(
    'wapiti',
    vulnerabilities !== null && found.every(({ info }) => ACCEPTED.has(info)),
    vulnerabilities
      ? found.map(({ info, path }) => `${path}: ${info}`).join(', ') || 'found nothing'
      : 'no report',
  )
}

const words = join(folder, 'words.txt')
const hits = join(folder, 'ffuf.json')
await writeFile(words, WORDS.split(' ').join('\n'))
const ffuf = await run('ffuf', [
  ...['-u', `${url}/FUZZ`, '-w', words, '-mc', 'all', '-fc', '404', '-p', '0.01', '-t', '10', '-s'],
  ...['-of', 'json', '-o', hits],
])
if (ffuf === null) tell('ffuf', null, 'not installed')
else {
  const { results } = JSON.parse(await readFile(hits, 'utf8')) as { results: { input: { FUZZ: string } }[] }
  const unknown = results.map(({ input }) => input.FUZZ).filter(word => !KNOWN.has(word))
  const count = WORDS.split(' ').length
  tell(
    'ffuf',
    unknown.length === 0,
    `${count} paths: ${unknown.join(', ') || 'nothing but what is documented'}`,
  )
}

const fuzz = await run(process.execPath, ['test/run.ts', FUZZ, '--timeout=110', '--reporter=tap'], ROOT)
tell('fast-check, 40 of each field', /pass: \d+ \}/.test(fuzz ?? ''), fuzz?.match(/# \{ total.*/)?.[0] ?? '')

tell('the process', gateway.exitCode === null && (await fetch(`${url}/healthz`)).ok, 'still answers')
const errors = log.match(/"level":(50|60)/g)?.length ?? 0
tell('its log', errors === 0 && !log.includes(token), `${errors} errors, no token`)

gateway.kill('SIGTERM')
await once(gateway, 'exit')
await sandbox.close()
await postgres.stop()
await rm(folder, { recursive: true, force: true })
process.exitCode = failed ? 1 : 0

/** The server's ends of all connections to `port`, whoever still owns them, as Linux lists them. */
async function connectionsTo(port: number): Promise<number> {
  const [LISTENING, ENDED] = ['0A', '06']
  const rows = (await readFile('/proc/net/tcp', 'utf8')).trim().split('\n').slice(1)
  return rows.filter(row => {
    const [, local = '', , state = ''] = row.trim().split(/\s+/)
    return Number.parseInt(local.split(':')[1]!, 16) === port && state !== LISTENING && state !== ENDED
  }).length
}

/** What a tool prints within its time; null when it is not installed. */
async function run(tool: string, args: string[], cwd = folder): Promise<string | null> {
  const child = spawn(tool, args, {
    cwd,
    env: { ...process.env, REELGATE_FUZZ: '40' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', chunk => {
      output += chunk
    })
  const missing = new Promise<true>(resolve => child.once('error', () => resolve(true)))
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS)
  const isMissing = await Promise.race([missing, once(child, 'close').then(() => false)]).catch(() => true)
  clearTimeout(timer)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: tools colour what they print
  return isMissing ? null : output.replaceAll(/\x1b\[[\d;]*m/g, '')
}
