import { sql } from 'drizzle-orm'
import type { Database, Db } from '../../db/client.ts'
import { appendEvents, readEpoch, readEvents, readHeads } from '../../db/events.ts'
import { listen } from '../../db/listen.ts'
import { type Chunk, decodeCursor, type Entry, encodeChunk, encodeCursor } from './event.ts'
import { createHub, type Subscription } from './hub.ts'

const CHANNEL = 'reelgate_events'
const HINT_EVERY_MS = 20
// NOTIFY refuses payloads of 8,000 bytes; a project's id and head take about 60.
const HINTS_PER_PAYLOAD = 100

export type Append = (projectId: string, chunks: Chunk[], runId?: string) => Promise<void>

export interface EventLog {
  /**
   * One transaction in which rows change and the log tells of it: both are committed, or neither. What was appended
   * is delivered to readers right after the commit.
   */
  transaction<T>(work: (tx: Db, append: Append) => Promise<T>): Promise<T>
  /** A page of the log after `after` (absent: from the beginning). Throws nothing for a cursor that cannot be continued. */
  page(projectId: string, after: string | undefined, limit: number): Promise<Page | 'not a cursor'>
  /** Follows a project from `after` (absent: from now on). Entries come once the subscription is started. */
  follow(projectId: string, after: string | undefined): Promise<Following | 'not a cursor'>
  /** The cursor of a position, for snapshots. */
  cursor(projectId: string, seq: number): string
  readonly epoch: string
  close(): Promise<void>
}

export interface Page {
  recovered: boolean
  entries: Entry[]
  more: boolean
  cursor: string
}

export type Following =
  | { recovered: true; cursor: string; subscription: Subscription }
  | { recovered: false; cursor: string }

/** The durable log: append, read, follow. `hints: false` leaves delivery between instances to the slow poll alone. */
export async function createEventLog(options: {
  database: Database
  url: string
  onError(error: unknown): void
  hints?: boolean
  /** Hears of each batch that this instance's readers of a project are offered. */
  onOffered?: ((entries: Entry[]) => void) | undefined
}): Promise<EventLog> {
  const { database, onError, hints = true } = options
  const { db } = database
  const epoch = await readEpoch(db)
  const hub = createHub(
    {
      read: (projectId, after, limit) => readEvents(db, projectId, after, limit),
      heads: projectIds => readHeads(db, projectIds),
    },
    onError,
    options.onOffered,
  )
  const listener = hints
    ? listen(options.url, [CHANNEL], {
        notification: (_, payload) => {
          for (const [projectId, seq] of JSON.parse(payload) as [string, unknown][])
            if (Number.isSafeInteger(seq)) hub.hint(projectId, seq as number)
        },
        listening: () => void hub.catchUp().catch(onError),
        error: onError,
      })
    : null

  const pendingHints = new Map<string, number>()
  let hintTimer: NodeJS.Timeout | null = null

  function hintOthers(projectId: string, seq: number) {
    if (!hints) return
    // Commits of one project can be heard of in another order than they were made.
    pendingHints.set(projectId, Math.max(seq, pendingHints.get(projectId) ?? 0))
    hintTimer ??= setTimeout(() => {
      hintTimer = null
      const all = [...pendingHints]
      pendingHints.clear()
      for (let i = 0; i < all.length; i += HINTS_PER_PAYLOAD)
        db.execute(
          sql`select pg_notify(${CHANNEL}, ${JSON.stringify(all.slice(i, i + HINTS_PER_PAYLOAD))})`,
        ).catch(onError)
    }, HINT_EVERY_MS)
  }

  async function transaction<T>(work: (tx: Db, append: Append) => Promise<T>): Promise<T> {
    const appended: Entry[][] = []
    const result = await db.transaction(tx =>
      work(tx, async (projectId, chunks, runId) => {
        if (chunks.length === 0) return
        const entries = await appendEvents(tx, projectId, runId ?? null, chunks.map(encodeChunk))
        if (entries.length > 0) appended.push(entries)
      }),
    )
    for (const entries of appended) {
      hub.deliver(entries)
      hintOthers(entries[0]!.projectId, entries.at(-1)!.seq)
    }
    return result
  }

  /** Where a cursor continues; null when it cannot: another epoch, another project, or ahead of the log. */
  async function position(projectId: string, after: string | undefined) {
    const head = (await readHeads(db, [projectId])).get(projectId) ?? 0
    if (after === undefined) return { head, seq: null }
    const cursor = decodeCursor(after, projectId)
    if (!cursor) return 'not a cursor'
    return cursor.epoch === epoch && cursor.seq <= head ? { head, seq: cursor.seq } : { head, seq: undefined }
  }

  return {
    epoch,
    transaction,
    cursor: (projectId, seq) => encodeCursor(epoch, projectId, seq),

    async page(projectId, after, limit) {
      const start = await position(projectId, after)
      if (start === 'not a cursor') return start
      if (start.seq === undefined)
        return {
          recovered: false,
          entries: [],
          more: false,
          cursor: encodeCursor(epoch, projectId, start.head),
        }
      const entries = await readEvents(db, projectId, start.seq ?? 0, limit + 1)
      const more = entries.length > limit
      if (more) entries.pop()
      const last = entries.at(-1)?.seq ?? start.seq ?? start.head
      return { recovered: true, entries, more, cursor: encodeCursor(epoch, projectId, last) }
    },

    async follow(projectId, after) {
      const start = await position(projectId, after)
      if (start === 'not a cursor') return start
      if (start.seq === undefined)
        return { recovered: false, cursor: encodeCursor(epoch, projectId, start.head) }
      const subscription = await hub.subscribe(projectId, start.seq)
      return { recovered: true, cursor: encodeCursor(epoch, projectId, subscription.from), subscription }
    },

    async close() {
      hub.close()
      if (hintTimer) clearTimeout(hintTimer)
      await listener?.close()
    },
  }
}
