/** The live connection to one project's log. It comes back by itself and continues from its last entry. */
import type { Entry, Problem } from './api.ts'
import { explain } from './client.ts'

interface Options {
  url: string
  token: string
  projectId: string
  after: string
  signal: AbortSignal
  onReconnect(reason: string): void
}

type Frame =
  | { type: 'ready'; pingEveryMs?: number }
  | { type: 'subscribed'; recovered: boolean }
  | { type: 'error'; problem: Problem }
  | { type: 'pong' }

export type Live = ReturnType<typeof openLive>

/** `next()` gives the entries in the order of the log and throws what cannot be mended by reconnecting. */
export function openLive({ url, token, projectId, after, signal, onReconnect }: Options) {
  const address = new URL('/v1/live', url)
  address.protocol = address.protocol.replace('http', 'ws')
  const entries: Entry[] = []
  let cursor = after
  let socket: WebSocket
  let tries = 0
  let open = true
  let timer: NodeJS.Timeout | undefined
  let failure: unknown
  let news = Promise.withResolvers<void>()

  function connect() {
    const mine = new WebSocket(address, 'reelgate.v1')
    socket = mine
    let heardAt = Date.now()
    let beat: NodeJS.Timeout | undefined
    let over = false
    const say = (frame: object) => mine.send(JSON.stringify(frame))

    mine.onopen = () => say({ type: 'hello', token })
    mine.onclose = ({ code, reason }) => lost(code, reason)
    mine.onmessage = ({ data }) => {
      heardAt = Date.now()
      const frame = JSON.parse(data) as Frame | Entry
      if (!('type' in frame)) return receive(frame)
      if (frame.type === 'ready') {
        const every = frame.pingEveryMs ?? 25_000
        beat = setInterval(() => {
          // A connection that died without a word never closes by itself.
          if (Date.now() - heardAt > 2 * every) lost(1006, 'nothing was heard any more')
          else say({ type: 'ping' })
        }, every)
        say({ type: 'subscribe', projectId, after: cursor })
      } else if (frame.type === 'subscribed') {
        if (!frame.recovered) fail(new Error('the log cannot be continued from the last cursor'))
        tries = 0
      } else if (frame.type === 'error') {
        const { status } = frame.problem
        if (status < 500 && status !== 429) fail(new Error(`live: ${explain(frame.problem)}`))
        else mine.close()
      }
    }

    function lost(code: number, reason: string) {
      if (over) return
      over = true
      clearInterval(beat)
      mine.onmessage = null
      mine.close()
      if (!open) return
      const why = `${code}${reason ? ` ${reason}` : ''}`
      if (code >= 4500) return fail(new Error(`live: the connection was closed for good: ${why}`))
      onReconnect(`the live connection was lost (${why}): continuing from the last cursor`)
      timer = setTimeout(connect, Math.min(250 * 2 ** tries++, 5_000) * (0.5 + Math.random() / 2))
    }
  }

  function receive(entry: Entry) {
    cursor = entry.id
    entries.push(entry)
    news.resolve()
  }

  function fail(error: unknown) {
    failure ??= error
    news.resolve()
  }

  signal.addEventListener('abort', () => fail(signal.reason), { once: true })
  connect()

  return {
    async next(): Promise<Entry> {
      for (;;) {
        if (failure) throw failure
        const entry = entries.shift()
        if (entry) return entry
        news = Promise.withResolvers()
        await news.promise
      }
    },

    /** Closes the socket and waits until it is closed. Entries that were not taken are forgotten. */
    async close(): Promise<void> {
      open = false
      clearTimeout(timer)
      if (socket.readyState === WebSocket.CLOSED) return
      const closed = new Promise(resolve => socket.addEventListener('close', resolve, { once: true }))
      socket.close(1000)
      await Promise.race([closed, new Promise(resolve => setTimeout(resolve, 3_000).unref())])
    },
  }
}
