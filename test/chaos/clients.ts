import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import type { Client, Json } from '../helpers/client.ts'
import type { Transcript } from './invariants.ts'

const PATIENCE_MS = 3_000
const AGAIN_MS = 250

/**
 * A client that follows a project from `cursor` and never gives up: whenever its socket ends, it comes back with
 * the cursor of the last entry it has. `move` takes it to another instance.
 */
export function watch(t: Test, user: Client, projectId: string, cursor: string, name: string) {
  const transcript: Transcript = { name, projectId, entries: [] }
  const ended = new AbortController()
  const refusals: string[] = []
  let url = user.url
  let after = cursor
  let socket: WebSocket | null = null

  async function stay() {
    while (!ended.signal.aborted) {
      await connect()
      await sleep(AGAIN_MS)
    }
  }

  function connect() {
    const own = new WebSocket(`${url.replace('http', 'ws')}/v1/live`, 'reelgate.v1', {
      headers: { authorization: `Bearer ${user.token}` },
      handshakeTimeout: PATIENCE_MS,
    })
    socket = own
    own.on('error', () => {})
    own.on('open', () => own.send(JSON.stringify({ type: 'subscribe', projectId, after })))
    own.on('message', data => {
      const frame: Json = JSON.parse(String(data))
      if (frame.type === 'subscribed' && !frame.recovered) throw new Error(`${name} lost its place`)
      // An instance that wakes up from a freeze may not be able to serve it yet, and ends the socket.
      if (frame.type === 'error') refusals.push(frame.problem.code)
      if (frame.type || own !== socket) return
      transcript.entries.push({ seq: frame.seq, chunk: frame.chunk })
      after = frame.id
    })
    return new Promise(resolve => own.on('close', resolve))
  }

  const staying = stay()
  t.teardown(() => {
    ended.abort()
    socket?.terminate()
    return staying
  })
  return {
    transcript,
    /** For a message: how far it has come, and what its socket is doing. */
    state: () =>
      `${name} has ${transcript.entries.at(-1)?.seq} from ${url}, socket ${socket?.readyState}, refused: ${refusals}`,
    move(to: string) {
      url = to
      socket?.terminate()
    },
  }
}

/** Posts until an instance has taken it, with one Idempotency-Key: to the first, and when that is silent to the next. */
export async function insist(user: Client, urls: string[], path: string, body: object, key: string) {
  for (let tried = 0; ; tried++, await sleep(AGAIN_MS)) {
    const response = await fetch(urls[tried % urls.length] + path, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${user.token}`,
        'content-type': 'application/json',
        'idempotency-key': key,
      },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    }).catch(() => null)
    const answer = (await response?.json().catch(() => null)) as Json
    if (response?.ok && answer) return answer
    if (response && response.status < 500 && response.status !== 409)
      throw new Error(`${path} was refused: ${JSON.stringify(answer)}`)
  }
}
