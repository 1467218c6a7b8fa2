/**
 * `npm run bench:upload [-- --mb 500 --rounds 3 --parallel 20 --parallel-mb 100]`: one large file to a backend that
 * drops it, straight and through each peer, every one a process of its own on the same machine; then many files at
 * once through reelgate. All of them have served one file and rested before it begins, and take turns: the rounds'
 * medians, and the highest memory of all. Figures move from machine to machine; the ratios are what counts. Linux only.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { type ClientRequest, request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startEmbedded } from '../src/db/embedded.ts'
import { signIn, startGateway } from './gateway.ts'
import { cpuSeconds, memory, owned, type Server, serve } from './processes.ts'

const MB = 1_000_000
// As browsers write it. Films are as good as random: a parser that looks for the boundary stumbles as often.
const BOUNDARY = '----WebKitFormBoundary7MA4YWxkTrZu0gW'
const chunk = randomBytes(256 * 1024)
const WARM_UP_BYTES = 20 * MB
/** V8 gives back what the start of a process took only once it has rested. */
const REST_MS = 20_000
const { values } = parseArgs({
  options: {
    mb: { type: 'string', default: '500' },
    rounds: { type: 'string', default: '3' },
    parallel: { type: 'string', default: '20' },
    'parallel-mb': { type: 'string', default: '100' },
  },
})
const bytes = Number(values.mb) * MB
const clip = await readFile(new URL('../demo/clip.mp4', import.meta.url))

const scratch = await mkdtemp(join(tmpdir(), 'reelgate-bench-'))
const postgres = await startEmbedded(scratch)
const sink = await serve('./peers/upload-sink.ts', {})

const straight = (url: string) => (size: number) => sendForm(`${url}/upload-video/x`, {}, size)
const proxy = await serve('./peers/upload-proxy.ts', { SINK: sink.url })
const nginx = await startNginx()
if (!nginx) console.log('nginx is not installed: left out')
const [multipart, resumable] = [await startReelgate(), await startReelgate()]
const [form, tus] = [await enter(multipart.url), await enter(resumable.url)]

const ways: Way[] = [
  { name: 'straight to the sink', pids: [], send: straight(sink.url) },
  ...(nginx ? [{ name: 'nginx, unbuffered', pids: await familyOf(nginx), send: straight(nginx.url) }] : []),
  { name: '@fastify/http-proxy', pids: await familyOf(proxy), send: straight(proxy.url) },
  { name: 'reelgate multipart', pids: await familyOf(multipart), send: size => sendMultipart(form, size) },
  { name: 'reelgate resumable', pids: await familyOf(resumable), send: size => sendResumable(tus, size) },
]
for (const { send } of ways) await send(WARM_UP_BYTES)
await new Promise(resolve => setTimeout(resolve, REST_MS))
// The peak of the uploads, not of the start.
for (const { pids } of ways) for (const pid of pids) await writeFile(`/proc/${pid}/clear_refs`, '5')
const rounds = new Map(ways.map(way => [way, [] as Round[]]))
for (let round = 0; round < Number(values.rounds); round++)
  for (const way of ways) rounds.get(way)!.push(await measure(way))

console.log(`${values.mb} MB, one file at a time, medians of ${values.rounds} rounds\n`)
console.log(
  '                            MB/s   CPU-s/GB   peak RSS MiB   MB/s against http-proxy   CPU    RSS',
)
const rows = await Promise.all(ways.map(row))
const base = rows.find(({ name }) => name === '@fastify/http-proxy')!
for (const { name, perSecond, cpuPerGb, peakMib } of rows)
  console.log(
    `${name.padEnd(22)}${perSecond.toFixed(0).padStart(10)}${cell(cpuPerGb, 11)}${cell(peakMib, 15, 0)}` +
      `${(perSecond / base.perSecond).toFixed(2).padStart(26)}${cell(cpuPerGb && cpuPerGb / base.cpuPerGb!, 6)}` +
      cell(peakMib && peakMib / base.peakMib!, 7),
  )
await parallel()

for (const server of [multipart, resumable, proxy, nginx, sink]) await server?.stop()
await postgres.stop()
await rm(scratch, { recursive: true, force: true })

/** One way of a file to the backend. */
interface Way {
  name: string
  /** None where no server of ours stands between. */
  pids: number[]
  send(size: number): Promise<void>
}

interface Round {
  perSecond: number
  cpuPerGb: number
}

interface Project {
  url: string
  id: string
  headers: Record<string, string>
}

/** Many files at once through one gateway: how much more memory than for one. */
async function parallel() {
  const [files, size] = [Number(values.parallel), Number(values['parallel-mb']) * MB]
  const pid = multipart.child.pid!
  await writeFile(`/proc/${pid}/clear_refs`, '5')
  await sendMultipart(form, size)
  const one = (await memory(pid)).peak
  const users = await Promise.all(Array.from({ length: files }, () => enter(multipart.url)))
  await writeFile(`/proc/${pid}/clear_refs`, '5')
  await Promise.all(users.map(user => sendMultipart(user, size)))
  const all = (await memory(pid)).peak
  const allowed = one + files * 2
  console.log(
    `\n${files} × ${values['parallel-mb']} MB at once: peak ${all.toFixed(0)} MiB, one alone ${one.toFixed(0)} MiB, ` +
      `${((all - one) / files).toFixed(2)} MiB for each (${all <= allowed ? 'within' : 'ABOVE'} ${allowed.toFixed(0)} MiB)`,
  )
}

async function measure({ pids, send }: Way): Promise<Round> {
  const cpu = async () => sum(await Promise.all(pids.map(cpuSeconds)))
  const before = await cpu()
  const startedAt = performance.now()
  await send(bytes)
  const seconds = (performance.now() - startedAt) / 1_000
  return { perSecond: bytes / MB / seconds, cpuPerGb: ((await cpu()) - before) / (bytes / 1e9) }
}

async function row(way: Way) {
  const { name, pids } = way
  const measured = rounds.get(way)!
  const ours = pids.length > 0
  return {
    name,
    perSecond: median(measured.map(({ perSecond }) => perSecond)),
    cpuPerGb: ours ? median(measured.map(({ cpuPerGb }) => cpuPerGb)) : null,
    peakMib: ours ? sum((await Promise.all(pids.map(memory))).map(({ peak }) => peak)) : null,
  }
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!
}

function startReelgate(): Promise<Server> {
  return startGateway({
    DATABASE_URL: postgres.url,
    NEMO_API_URL: sink.url,
    DATA_DIR: join(scratch, 'data'),
    TOKEN_KEYS: `bench:${Buffer.alloc(32, 1).toString('base64')}`,
    MAX_UPLOAD_BYTES: '10000000000',
    LOG_LEVEL: 'info',
    PORT: '0',
  })
}

async function sendForm(url: string, headers: Record<string, string>, size: number): Promise<void> {
  const disposition = 'form-data; name="file"; filename="film.mp4"'
  const head = `--${BOUNDARY}\r\ncontent-disposition: ${disposition}\r\ncontent-type: video/mp4\r\n\r\n`
  const tail = `\r\n--${BOUNDARY}--\r\n`
  const { outgoing, answered } = open('POST', url, {
    ...headers,
    'content-type': `multipart/form-data; boundary=${BOUNDARY}`,
    'content-length': String(head.length + size + tail.length),
  })
  outgoing.write(head)
  await pour(outgoing, size)
  outgoing.end(tail)
  await answered
}

function sendMultipart({ url, id, headers }: Project, size: number): Promise<void> {
  return sendForm(`${url}/v1/projects/${id}/uploads`, headers, size)
}

/** Until the file has been forwarded too. */
async function sendResumable({ url, id, headers }: Project, size: number): Promise<void> {
  const tus = { ...headers, 'tus-resumable': '1.0.0' }
  const created = await fetch(`${url}/v1/projects/${id}/uploads/resumable`, {
    method: 'POST',
    headers: {
      ...tus,
      'upload-length': String(size),
      'upload-metadata': `filename ${Buffer.from('film.mp4').toString('base64')}`,
    },
  })
  const location = created.headers.get('location')!
  const { outgoing, answered } = open('PATCH', url + location, {
    ...tus,
    'content-type': 'application/offset+octet-stream',
    'upload-offset': '0',
    'content-length': String(size),
  })
  await pour(outgoing, size)
  outgoing.end()
  await answered
  while (true) {
    const upload = (await (
      await fetch(`${url}/v1/uploads/${location.split('/').at(-1)}`, { headers })
    ).json()) as { state: string; problem?: object }
    if (upload.state === 'failed') throw new Error(JSON.stringify(upload.problem))
    if (upload.state === 'ready') break
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

function open(method: string, url: string, headers: Record<string, string>) {
  const outgoing = request(url, { method, headers, agent: false })
  const answered = new Promise<void>((resolve, reject) => {
    outgoing.on('error', reject)
    outgoing.on('response', async response => {
      let text = ''
      for await (const part of response) text += part
      if (response.statusCode! < 300) resolve()
      else reject(new Error(`${url} answered ${response.statusCode}: ${text}`))
    })
  })
  return { outgoing, answered }
}

async function pour(outgoing: ClientRequest, size: number) {
  outgoing.write(clip)
  for (let left = size - clip.length; left > 0; left -= chunk.length)
    if (!outgoing.write(left < chunk.length ? chunk.subarray(0, left) : chunk)) await once(outgoing, 'drain')
}

async function enter(url: string): Promise<Project> {
  const { token, id } = await signIn(url)
  return { url, id, headers: { authorization: `Bearer ${token}` } }
}

async function startNginx(): Promise<Server | null> {
  const port = await freePort()
  const config = join(scratch, 'nginx.conf')
  await writeFile(
    config,
    `daemon off; worker_processes 1; pid ${scratch}/nginx.pid; error_log ${scratch}/nginx.log; events {}
     http { access_log off; client_max_body_size 0; client_body_temp_path ${scratch}/nginx-body;
       server { listen 127.0.0.1:${port}; location / { proxy_pass ${sink.url}; proxy_http_version 1.1;
         proxy_request_buffering off; proxy_buffering off; } } }`,
  )
  const child = spawn('nginx', ['-c', config, '-e', join(scratch, 'nginx.log')], { stdio: 'ignore' })
  const server = owned(child)
  const missing = await Promise.race([
    once(child, 'error').then(() => true),
    new Promise(resolve => setTimeout(resolve, 1_000, false)),
  ])
  return missing || child.exitCode !== null ? null : { ...server, url: `http://127.0.0.1:${port}` }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}

/** The process and its children. */
async function familyOf({ child: { pid } }: Server): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return [pid!, ...children.split(' ').filter(Boolean).map(Number)]
}

function cell(value: number | null, width: number, digits = 2): string {
  return (value === null ? '–' : value.toFixed(digits)).padStart(width)
}
