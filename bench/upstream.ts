/**
 * The upstream of the event benches: the sandbox, whose answers are replaced by numbered lines. The streams begin
 * together when `POST /__go` says how fast: `paces=10@200,50@2000` is 10 lines on each stream at 200 a second on all
 * of them, then 50 at 2,000. `GET /__open` waits until they are open, `POST /__end` ends those that have begun. Peers
 * read the same from `GET /stream`.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { createSandbox } from '../sandbox/server.ts'
import { createFrameWriter } from '../sandbox/stream.ts'

const BYTES = 600
const FILLER = 'the clip is short and quiet, so the music begins late and ends with the last scene, '.repeat(
  8,
)

const sandbox = await createSandbox({ host: '127.0.0.1', mintsPerIp: 1_000 })
let streams: ServerResponse[] = []
let begun: ServerResponse[] = []

const server = createServer((req, res) => {
  const path = req.url!.split('?')[0]
  if (path === '/run_sse' || path === '/stream') return open(res)
  if (path === '/__open') return awaitStreams(req, res)
  if (path === '/__go') return go(req, res)
  if (path === '/__end') return end(res)
  pass(req, res)
})
server.listen(0, '127.0.0.1', () =>
  console.log(`Server listening at http://127.0.0.1:${(server.address() as { port: number }).port}`),
)

function open(res: ServerResponse) {
  res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
  res.socket!.setNoDelay(true)
  streams.push(res)
}

const queryOf = (req: IncomingMessage) => new URL(req.url!, 'http://upstream').searchParams

async function awaitStreams(req: IncomingMessage, res: ServerResponse) {
  const count = Number(queryOf(req).get('streams'))
  while (streams.length < count) await new Promise(resolve => setTimeout(resolve, 5))
  res.end('open')
}

async function go(req: IncomingMessage, res: ServerResponse) {
  const query = queryOf(req)
  begun = streams
  streams = []
  const paces = query
    .get('paces')
    ?.split(',')
    .map(pace => pace.split('@').map(Number) as [number, number])
  if (paces) await paced(begun, paces)
  else await Promise.all(begun.map(stream => flood(stream, Number(query.get('flood')))))
  res.end('sent')
}

function end(res: ServerResponse) {
  for (const stream of begun) stream.end()
  res.end('ended')
}

async function paced(streams: ServerResponse[], paces: [each: number, perSecond: number][]) {
  const writers = streams.map(() => createFrameWriter())
  let before = 0
  for (const [each, perSecond] of paces) {
    const startedAt = performance.now()
    for (let sent = 0; sent < each * streams.length; ) {
      const due = ((performance.now() - startedAt) / 1_000) * perSecond
      for (; sent < Math.min(due, each * streams.length); sent++) {
        const i = sent % streams.length
        streams[i]!.write(frame(writers[i]!, before + Math.floor(sent / streams.length)))
      }
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    before += each
  }
}

async function flood(stream: ServerResponse, each: number) {
  const writer = createFrameWriter()
  for (let n = 0; n < each; n++) if (!stream.write(frame(writer, n))) await once(stream, 'drain')
}

/** One line of 600 bytes: its number, when it was sent, and words. */
function frame(writer: ReturnType<typeof createFrameWriter>, n: number) {
  const at = (performance.timeOrigin + performance.now()).toFixed(3)
  return writer.text(`#${String(n).padStart(6, '0')}@${at}# ${FILLER}`.slice(0, BYTES - 2).concat('.\n'), {
    partial: true,
  })
}

function pass(req: IncomingMessage, res: ServerResponse) {
  const onward = request(sandbox.url + req.url, { method: req.method!, headers: req.headers }, answer => {
    res.writeHead(answer.statusCode!, answer.headers)
    answer.pipe(res)
  })
  onward.on('error', () => res.destroy())
  req.pipe(onward)
}
