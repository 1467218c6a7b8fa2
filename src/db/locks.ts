import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const CHANNEL = 'reelgate_locks'
const LOCK_CLASS = 5_242_880
const ASK_EVERY_MS = 100
const HEARTBEAT_MS = 5_000

export class LockTimeoutError extends Error {
  override readonly name = 'LockTimeoutError'
}

export interface Holder {
  /** Somebody else waits for the lock. */
  wanted(): void
  /** The lock is lost and others may have it: stop at once. */
  lost(): void
}

export interface Held {
  release(): Promise<void>
}

export interface Locks {
  /**
   * Takes the lock of this name, of which there is one among all instances. Its holder is told that it is wanted.
   * Throws LockTimeoutError after `waitMs`, and the signal's reason.
   */
  hold(name: string, holder: Holder, waitMs: number, signal?: AbortSignal): Promise<Held>
  close(): Promise<void>
}

interface Entry extends Holder {
  /** False while it waits for another instance. */
  taken: boolean
  ended: PromiseWithResolvers<void>
}

/**
 * Advisory locks, all in one session of this instance: when the process dies, Postgres lets go of them at once, and
 * no transaction stays open meanwhile, which would hold back vacuum.
 */
export function createLocks(url: string, onError: (error: unknown) => void): Locks {
  const entries = new Map<string, Entry>()
  let session: pg.Client | null = null
  let opening: Promise<pg.Client> | null = null
  let last: Promise<unknown> = Promise.resolve()
  let closed = false
  const heartbeat = setInterval(() => {
    const client = session
    // A half-open connection looks alive until it is asked.
    if (client && entries.size > 0) ask(client, 'select 1').catch(error => lose(client, error))
  }, HEARTBEAT_MS).unref()

  async function connect(): Promise<pg.Client> {
    if (session) return session
    opening ??= open().finally(() => {
      opening = null
    })
    return opening
  }

  async function open(): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: url,
      application_name: 'reelgate locks',
      connectionTimeoutMillis: 5_000,
      query_timeout: 5_000,
      keepAlive: true,
    })
    client.on('error', error => lose(client, error))
    client.on('end', () => lose(client, new Error('The connection that holds the locks ended')))
    client.on('notification', ({ payload }) => tell(entries.get(payload ?? '')))
    await client.connect()
    await client.query(`listen ${client.escapeIdentifier(CHANNEL)}`)
    session = client
    return client
  }

  function tell(entry: Entry | undefined) {
    if (entry?.taken) entry.wanted()
  }

  function lose(client: pg.Client, error: unknown) {
    if (session !== client) return
    session = null
    client.end().catch(() => {})
    if (!closed) onError(error)
    for (const entry of entries.values()) if (entry.taken) entry.lost()
  }

  /** Within this process the session would get the same lock twice, so requests of one instance queue up here. */
  async function enter(name: string, holder: Holder, end: number, signal?: AbortSignal): Promise<Entry> {
    for (let other = entries.get(name); other; other = entries.get(name)) {
      tell(other)
      if (performance.now() > end) throw new LockTimeoutError(name)
      await Promise.race([other.ended.promise, sleep(ASK_EVERY_MS)])
      signal?.throwIfAborted()
    }
    const entry = { ...holder, taken: false, ended: Promise.withResolvers<void>() }
    entries.set(name, entry)
    return entry
  }

  function leave(name: string, entry: Entry) {
    if (entries.get(name) === entry) entries.delete(name)
    entry.ended.resolve()
  }

  /** One statement after the other, as they share one connection. */
  function ask(client: pg.Client, statement: string, values: unknown[] = []): Promise<pg.QueryResult> {
    const answer = last.then(() => client.query(statement, values))
    last = answer.catch(() => {})
    return answer
  }

  return {
    async hold(name, holder, waitMs, signal) {
      const end = performance.now() + waitMs
      const entry = await enter(name, holder, end, signal)
      try {
        while (true) {
          const client = await connect()
          const { rows } = await ask(
            client,
            'select pg_try_advisory_lock(hashtextextended($1, $2)) as taken',
            [name, LOCK_CLASS],
          )
          entry.taken = rows[0].taken
          if (entry.taken) {
            return {
              async release() {
                try {
                  // A later session holds nothing of this one.
                  if (session === client)
                    await ask(client, 'select pg_advisory_unlock(hashtextextended($1, $2))', [
                      name,
                      LOCK_CLASS,
                    ])
                } catch (error) {
                  lose(client, error)
                } finally {
                  leave(name, entry)
                }
              },
            }
          }
          if (performance.now() > end) throw new LockTimeoutError(name)
          await ask(client, 'select pg_notify($1, $2)', [CHANNEL, name])
          await sleep(ASK_EVERY_MS)
          signal?.throwIfAborted()
        }
      } catch (error) {
        leave(name, entry)
        throw error
      }
    },

    async close() {
      closed = true
      clearInterval(heartbeat)
      const client = session ?? (await opening?.catch(() => null))
      session = null
      await client?.end().catch(() => {})
    },
  }
}
