import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const HEARTBEAT_MS = 10_000
const ANSWER_MS = 5_000
const RETRY_MS = 500
/** What a listener announces to itself; nobody else is to hear of it. */
const BEAT = 'beat '

export interface Listener {
  /** Announces on this connection. While there is none, the announcement is lost. */
  notify(channel: string, payload: string): void
  close(): Promise<void>
}

/**
 * Keeps one connection listening on `channels` for as long as the process lives. `listening` is called after each
 * (re)connect: whatever was announced in between is lost, so the caller catches up then. A connection that does not
 * hear its own announcement within `answerMs` is made anew: it is half-open, or a pooler has taken it to another
 * session.
 */
export function listen(
  url: string,
  channels: string[],
  on: {
    notification(channel: string, payload: string): void
    listening(): void
    error(error: unknown): void
  },
  { heartbeatMs = HEARTBEAT_MS, answerMs = ANSWER_MS } = {},
): Listener {
  const closing = new AbortController()
  let client: pg.Client | null = null
  let heard = new Set<string>()
  const loop = keepListening()

  async function keepListening() {
    while (!closing.signal.aborted) {
      await listenOnce().catch(error => closing.signal.aborted || on.error(error))
      await sleep(RETRY_MS, undefined, { signal: closing.signal }).catch(() => {})
    }
  }

  async function listenOnce() {
    const connection = new pg.Client({
      connectionString: url,
      application_name: 'reelgate listen',
      connectionTimeoutMillis: answerMs,
      query_timeout: answerMs,
      keepAlive: true,
      // What is announced does not wait for the announcement before, and pg 9 keeps no queue for it.
      pipeline: true,
    })
    const lost = new AbortController()
    const over = AbortSignal.any([lost.signal, closing.signal])
    connection.on('error', error => lost.abort(error))
    connection.on('end', () => lost.abort(new Error('The listening connection ended')))
    connection.on('notification', ({ channel, payload = '' }) => {
      if (payload.startsWith(BEAT)) return void heard.add(channel + payload)
      try {
        on.notification(channel, payload)
      } catch (error) {
        // Thrown on, it would end the process: anyone with access to the database can announce anything.
        on.error(error)
      }
    })
    try {
      await connection.connect()
      // Announcements change no row that a crash could lose.
      await connection.query('set synchronous_commit = off')
      for (const channel of channels) await connection.query(`listen ${connection.escapeIdentifier(channel)}`)
      client = connection
      on.listening()
      while (!closing.signal.aborted) {
        await sleep(heartbeatMs, undefined, { signal: over }).catch(() => {})
        lost.signal.throwIfAborted()
        if (!closing.signal.aborted) await hearOneself(connection)
      }
    } finally {
      client = null
      await Promise.race([connection.end().catch(() => {}), sleep(1_000, undefined, { ref: false })])
    }
  }

  /** A half-open connection looks alive until it is asked, and one that no longer listens looks alive even then. */
  async function hearOneself(connection: pg.Client) {
    heard = new Set()
    const beat = BEAT + crypto.randomUUID()
    for (const channel of channels) await connection.query('select pg_notify($1, $2)', [channel, beat])
    const deaf = () => channels.find(channel => !heard.has(channel + beat))
    for (const end = performance.now() + answerMs; deaf(); await sleep(20))
      if (performance.now() > end) throw new Error(`Nothing is heard on ${deaf()}: LISTEN needs a session`)
  }

  return {
    notify(channel, payload) {
      client?.query('select pg_notify($1, $2)', [channel, payload]).catch(() => {})
    },
    close: async () => {
      closing.abort()
      await loop
    },
  }
}
