import type { Database, Db } from '../../db/client.ts'
import { appendBatches, type Batch } from '../../db/event-batches.ts'
import { confirmEpoch } from '../../db/event-epoch.ts'
import { appendEvents, readEvents, readHeads } from '../../db/events.ts'
import { watchEpoch } from './epoch.ts'
import { type Chunk, decodeCursor, type Entry, encodeChunk, encodeCursor } from './event.ts'
import { createGroupCommit } from './group-commit.ts'
import { createHints } from './hints.ts'
import { createHub, type Subscription } from './hub.ts'
import { firstOf } from './ring.ts'

/** Without a listening connection, nothing is made anew when the database fails over. */
const CONFIRM_EVERY_MS = 10_000

export type Append = (projectId: string, chunks: Chunk[], runId?: string) => Promise<void>

/** What a run adds to its project's log where no other row changes. */
export type RunBatch = Omit<Batch, 'chunks'> & { chunks: Chunk[] }

export interface EventLog {
  /**
   * One transaction in which rows change and the log tells of it: both are committed, or neither. What was appended
   * is delivered to readers right after the commit.
   */
  transaction<T>(work: (tx: Db, append: Append) => Promise<T>): Promise<T>
  /**
   * The hot path: several runs' batches are committed together. False when another attempt has the run, or when this
   * very batch has been written before.
   */
  write(batch: RunBatch): Promise<boolean>
  /** A page of the log after `after` (absent: from the beginning). Throws nothing for a cursor that cannot be continued. */
  page(projectId: string, after: string | undefined, limit: number): Promise<Page | 'not a cursor'>
  /** Follows a project from `after` (absent: from now on). Entries come once the subscription is started. */
  follow(projectId: string, after: string | undefined): Promise<Following | 'not a cursor'>
  /** The cursor of a position, for snapshots. */
  cursor(projectId: string, seq: number): string
  /** Changes when the log may have gone backwards; all readers are ended then. */
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
  const { database, onError } = options
  const { db, pool } = database
  let epoch = await confirmEpoch(db)
  const epochWatch = watchEpoch({
    db,
    known: () => epoch,
    onChanged(found) {
      epoch = found
      hub.reset()
    },
  })
  const hub = createHub(
    {
      read: (projectId, after, limit) => readEvents(db, projectId, after, limit),
      heads: projectIds => readHeads(db, projectIds),
    },
    {
      onError,
      onOffered: options.onOffered,
      onBackwards: () => void epochWatch.renew().catch(onError),
    },
  )
  const hints =
    options.hints === false
      ? null
      : createHints(options.url, {
          hint: hub.hint,
          listening: () => void epochWatch.confirm().then(hub.catchUp).catch(onError),
          error: onError,
        })
  const writeBatch = createGroupCommit((batches, wait) => appendBatches(pool, batches, wait), deliver)

  const confirming = hints
    ? undefined
    : setInterval(() => epochWatch.confirm().catch(onError), CONFIRM_EVERY_MS)

  function deliver(entries: Entry[]) {
    hub.deliver(entries)
    hints?.tell(entries[0]!.projectId, entries.at(-1)!.seq)
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
    for (const entries of appended) deliver(entries)
    return result
  }

  const head = async (projectId: string) => (await readHeads(db, [projectId])).get(projectId) ?? 0

  async function lost(projectId: string) {
    const seq = await head(projectId)
    return { recovered: false, cursor: encodeCursor(epoch, projectId, seq) } as const
  }

  /** Null: it is of another project or of another epoch. */
  async function seqOf(after: string, projectId: string): Promise<number | null | 'not a cursor'> {
    const cursor = decodeCursor(after, projectId)
    if (!cursor) return 'not a cursor'
    // Another instance may have been the first to notice that the epoch has changed.
    if (cursor.epoch !== '' && cursor.epoch !== epoch) await epochWatch.confirm()
    return cursor.epoch === epoch ? cursor.seq : null
  }

  return {
    get epoch() {
      return epoch
    },
    transaction,
    write: batch => writeBatch({ ...batch, chunks: batch.chunks.map(encodeChunk) }),
    cursor: (projectId, seq) => encodeCursor(epoch, projectId, seq),

    async page(projectId, after, limit) {
      const seq = after === undefined ? 0 : await seqOf(after, projectId)
      if (seq === 'not a cursor') return seq
      const nothing = { entries: [], more: false }
      if (seq === null) return { ...nothing, ...(await lost(projectId)) }
      let entries = await readEvents(db, projectId, seq, limit + 1)
      const end = entries.length === 0 ? await head(projectId) : seq
      // Written between the two looks, or gone.
      if (end !== seq) entries = await readEvents(db, projectId, seq, limit + 1)
      const continues = entries[0] ? firstOf(entries[0]) === seq + 1 : end === seq
      if (after !== undefined && !continues) return { ...nothing, ...(await lost(projectId)) }
      const more = entries.length > limit
      if (more) entries.pop()
      // With nothing kept, whoever begins goes on from the end.
      const last = entries.at(-1)?.seq ?? end
      return { recovered: true, entries, more, cursor: encodeCursor(epoch, projectId, last) }
    },

    async follow(projectId, after) {
      const seq = after === undefined ? undefined : await seqOf(after, projectId)
      if (seq === 'not a cursor') return seq
      if (seq === null) return lost(projectId)
      const began = epoch
      const subscription = await hub.subscribe(projectId, seq ?? null)
      if (!subscription) return lost(projectId)
      if (began === epoch)
        return { recovered: true, cursor: encodeCursor(epoch, projectId, subscription.from), subscription }
      subscription.close()
      return lost(projectId)
    },

    async close() {
      hub.close()
      clearInterval(confirming)
      await hints?.close()
    },
  }
}
