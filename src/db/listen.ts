import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const HEARTBEAT_MS = 10_000
const RETRY_MS = 500

export interface Listener {
  close(): Promise<void>
}

/**
 * Keeps one connection listening on `channels` for as long as the process lives. `onListening` is called after each
 * (re)connect: whatever was announced in between is lost, so the caller catches up then.
 */
export function listen(
  url: string,
  channels: string[],
  on: {
    notification(channel: string, payload: string): void
    listening(): void
    error(error: unknown): void
  },
): Listener {
  const closing = new AbortController()
  const loop = keepListening()

  async function keepListening() {
    while (!closing.signal.aborted) {
      await listenOnce().catch(error => closing.signal.aborted || on.error(error))
      await sleep(RETRY_MS, undefined, { signal: closing.signal }).catch(() => {})
    }
  }

  async function listenOnce() {
    const client = new pg.Client({
      connectionString: url,
      application_name: 'reelgate listen',
      connectionTimeoutMillis: 5_000,
      query_timeout: 5_000,
      keepAlive: true,
    })
    const lost = new AbortController()
    const over = AbortSignal.any([lost.signal, closing.signal])
    client.on('error', error => lost.abort(error))
    client.on('end', () => lost.abort(new Error('The listening connection ended')))
    client.on('notification', ({ channel, payload }) => {
      try {
        on.notification(channel, payload ?? '')
      } catch (error) {
        // Thrown on, it would end the process: anyone with access to the database can announce anything.
        on.error(error)
      }
    })
    try {
      await client.connect()
      for (const channel of channels) await client.query(`listen ${client.escapeIdentifier(channel)}`)
      on.listening()
      while (!closing.signal.aborted) {
        await sleep(HEARTBEAT_MS, undefined, { signal: over }).catch(() => {})
        lost.signal.throwIfAborted()
        // A half-open connection looks alive until it is asked.
        if (!closing.signal.aborted) await client.query('select 1')
      }
    } finally {
      await Promise.race([client.end().catch(() => {}), sleep(1_000, undefined, { ref: false })])
    }
  }

  return {
    close: async () => {
      closing.abort()
      await loop
    },
  }
}
