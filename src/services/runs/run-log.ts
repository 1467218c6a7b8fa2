import { setTimeout as sleep } from 'node:timers/promises'
import type { Db } from '../../db/client.ts'
import { countLogWrite, loadRun, type RunRow, updateRun } from '../../db/runs.ts'
import { isDatabaseDown } from '../../problems.ts'
import type { Chunk } from '../events/event.ts'
import type { Append, EventLog } from '../events/log.ts'
import { closeMessage } from './run.ts'

const DATABASE_PATIENCE_MS = 30_000
export const DATABASE_RETRY_MS = 500
/** Characters of text. A run that says more during one write is faster than anybody reads. */
const FAST = 2_000
/** What it says within this time is then written, and sent to each reader, as one: for all fast runs at once. */
const GATHER_MS = 20
/** More than this does not wait to be written: the upstream waits until it is. */
const FULL = { characters: 32_768, chunks: 2_000 }

/** Makes again what may be made again, until `end`, while the database does not answer. `pause` may throw to end it. */
export async function withDatabase<T>(
  act: () => Promise<T>,
  {
    end = Date.now() + DATABASE_PATIENCE_MS,
    pause = () => sleep(DATABASE_RETRY_MS) as Promise<unknown>,
  } = {},
): Promise<T> {
  for (; ; await pause()) {
    try {
      return await act()
    } catch (error) {
      if (!isDatabaseDown(error) || Date.now() > end) throw error
    }
  }
}

/** Another worker has this run; what this one still wants to write is void. */
export class LostRunError extends Error {
  override readonly name = 'LostRunError'
}

/** The one writer of a run's part of the log. It ends what is still open when the run ends. */
export interface RunLog {
  /** Takes chunks and writes them soon: what comes while a commit is under way goes with the next one. */
  push(chunks: Chunk[]): void
  /** Resolves once there is room; rejects when writing has failed for good. */
  ready(): Promise<void>
  /** Writes what is pending, then `work`, in one transaction that only the run's holder can commit. */
  transaction<T>(work: (tx: Db, append: Append) => Promise<T>): Promise<T>
}

/**
 * Every batch is numbered in the run's row. So a worker that lost the run writes nothing more, and a commit whose
 * answer was lost with the connection is recognised instead of written again.
 */
export function createRunLog(options: { db: Db; log: EventLog; run: RunRow }): RunLog {
  const { db, log, run } = options
  let pending: Chunk[] = []
  let batch = run.logWrites
  let openMessageId = run.openMessageId
  let tail: Promise<unknown> = Promise.resolve()
  let pendingText = 0
  let scheduled = false
  let gathered = () => {}
  let failure: unknown = null

  function push(chunks: Chunk[]) {
    pending.push(...chunks)
    pendingText += textLength(chunks)
    if (isFull()) gathered()
    if (scheduled || pending.length === 0) return
    scheduled = true
    inTurn(gatherAndWrite).catch(error => {
      failure = error
    })
  }

  const isFull = () => pending.length > FULL.chunks || pendingText > FULL.characters

  async function gatherAndWrite() {
    if (pendingText > FAST && !isFull())
      await new Promise<void>(resolve => {
        gathered = resolve
        setTimeout(resolve, GATHER_MS - (performance.now() % GATHER_MS))
      })
    await write()
  }

  /** One write at a time: the order of the log is the order of pushes. */
  function inTurn<T>(step: () => Promise<T>): Promise<T> {
    const turn = tail.then(step)
    tail = turn.catch(() => {})
    return turn
  }

  async function write<T>(work?: (tx: Db, append: Append) => Promise<T>): Promise<T | undefined> {
    scheduled = false
    if (failure) throw failure
    const chunks = joinDeltas(pending)
    pending = []
    pendingText = 0
    const number = batch + 1
    let message = openMessageId
    let result: T | undefined

    /** No other row changes, so it may go together with what other runs write. */
    async function textAlone() {
      const legal = closedAtEnd(chunks, openMessageId)
      message = lastOpenMessage(legal, openMessageId)
      const { id: runId, projectId, attempt } = run
      if (!(await log.write({ projectId, runId, attempt, number, openMessageId: message, chunks: legal })))
        throw new LostRunError('Another worker has this run')
    }

    async function withRows(work: (tx: Db, append: Append) => Promise<T>) {
      await log.transaction(async (tx, append) => {
        if (!(await countLogWrite(tx, run.id, run.attempt, number)))
          throw new LostRunError('Another worker has this run')
        message = openMessageId
        const tell: Append = (projectId, chunks, runId) => {
          if (runId !== run.id) return append(projectId, chunks, runId)
          const legal = closedAtEnd(chunks, message)
          message = lastOpenMessage(legal, message)
          return append(projectId, legal, runId)
        }
        await tell(run.projectId, chunks, run.id)
        result = await work(tx, tell)
        if (message !== openMessageId) await updateRun(tx, run.id, { openMessageId: message })
      })
    }

    if (!work && chunks.length === 0) return undefined
    const end = Date.now() + DATABASE_PATIENCE_MS
    try {
      await withDatabase(() => (work ? withRows(work) : textAlone()), { end })
    } catch (error) {
      // Only the answer to the commit may have been lost: what was written is what the last try came to.
      const isWritten = error instanceof LostRunError && (await wasWritten(number, end))
      if (!isWritten) {
        // A change that was rolled back must not take the text before it along.
        if (work && !isDatabaseDown(error)) pending.unshift(...chunks)
        else failure = error
        throw error
      }
    }
    batch = number
    openMessageId = message
    return result
  }

  async function wasWritten(number: number, end: number): Promise<boolean> {
    const row = await withDatabase(() => loadRun(db, run.id), { end })
    return row?.attempt === run.attempt && row.logWrites === number
  }

  return {
    push,
    async ready() {
      if (failure) throw failure
      while (isFull() && !failure) await tail
      if (failure) throw failure
    },
    transaction: work => inTurn(() => write(work)) as ReturnType<typeof work>,
  }
}

const textLength = (chunks: Chunk[]) =>
  chunks.reduce((sum, chunk) => sum + (chunk.type === 'TEXT_MESSAGE_CONTENT' ? chunk.delta.length : 0), 0)

/** Neighbouring pieces of one message become one: a backlog need not be as fine as it arrived. */
function joinDeltas(chunks: Chunk[]): Chunk[] {
  const joined: Chunk[] = []
  for (const chunk of chunks) {
    const last = joined.at(-1)
    if (
      chunk.type === 'TEXT_MESSAGE_CONTENT' &&
      last?.type === 'TEXT_MESSAGE_CONTENT' &&
      last.messageId === chunk.messageId
    )
      joined[joined.length - 1] = { ...last, delta: last.delta + chunk.delta }
    else joined.push(chunk)
  }
  return joined
}

function closedAtEnd(chunks: Chunk[], open: string | null): Chunk[] {
  const end = chunks.findIndex(({ type }) => type === 'RUN_FINISHED' || type === 'RUN_ERROR')
  if (end < 0) return chunks
  return chunks.toSpliced(end, 0, ...closeMessage(lastOpenMessage(chunks.slice(0, end), open)))
}

function lastOpenMessage(chunks: Chunk[], open: string | null): string | null {
  for (const chunk of chunks) {
    if (chunk.type === 'TEXT_MESSAGE_START') open = chunk.messageId
    if (chunk.type === 'TEXT_MESSAGE_END') open = null
  }
  return open
}
