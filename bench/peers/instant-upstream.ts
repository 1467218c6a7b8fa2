/**
 * A backend that answers every poll of a render at once, and notes how late each came: the n-th render (of COUNT) is
 * due a period's n-th part after START (epoch ms), and then a PERIOD (ms) after each answer.
 * GET /take gives the figures since the last one. With NEWS=1 each poll tells of progress.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const [count, period] = [Number(process.env.COUNT), Number(process.env.PERIOD)]
const news = process.env.NEWS === '1'
let due = new Float64Array(0)
let late: number[] = []

/** Begins anew with the schedule that starts at `start`. */
function begin(start: number) {
  due = Float64Array.from({ length: count }, (_, n) => start + (n * period) / count)
  late = []
}

const server = createServer((request, response) => {
  const path = request.url ?? ''
  response.setHeader('content-type', 'application/json')
  if (path.startsWith('/begin/')) {
    begin(Number(path.slice('/begin/'.length)))
    return response.end('{}')
  }
  if (path === '/take') {
    const sorted = late.toSorted((a, b) => a - b)
    const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? 0
    response.end(
      JSON.stringify({ polls: sorted.length, p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 }),
    )
    late = []
    return
  }
  const id = path.slice(path.lastIndexOf('/') + 1)
  const n = Number(id.slice('render_'.length))
  const now = Date.now()
  late.push(now - due[n]!)
  due[n] = now + period
  const progress = news ? Math.floor((now / 1_000) % 90) : 40
  response.end(`{"taskId":"${id}","status":"processing","progress":${progress},"output":null}`)
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () =>
  console.log(`Server listening at http://127.0.0.1:${(server.address() as AddressInfo).port} `),
)
