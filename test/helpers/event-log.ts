import { randomUUIDv7 } from 'node:crypto'
import type { Test } from 'tap'
import { openDatabase } from '../../src/db/client.ts'
import { insertProject } from '../../src/db/projects.ts'
import { insertUser } from '../../src/db/users.ts'
import { type Chunk, custom } from '../../src/services/events/event.ts'
import { createEventLog, type EventLog } from '../../src/services/events/log.ts'
import { testDatabase } from './database.ts'

/** A database with two projects; `open` is one more instance of the log over it, with a pool of its own. */
export async function setStage(t: Test) {
  const { url, database } = await testDatabase(t)
  const { db } = database
  const { id: userId } = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const project = () => insertProject(db, { id: randomUUIDv7(), userId, name: 'Holiday', language: 'en' })
  async function open(hints: boolean, at = url) {
    const database = openDatabase(at, () => {})
    const log = await createEventLog({ database, url: at, onError: () => {}, hints })
    t.teardown(async () => {
      await log.close()
      await database.close()
    })
    return log
  }
  return { url, db, open, id: (await project()).id, other: (await project()).id }
}

export const note = (value: unknown): Chunk => custom('run.progress', value)
export const write = (log: EventLog, id: string, ...values: unknown[]) =>
  log.transaction((_, append) => append(id, values.map(note)))
export const valueIn = ({ chunk }: { chunk: string }) => JSON.parse(chunk).value
export const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

/** Follows a project; what comes is in `seqs` and `values`. */
export async function follow(t: Test, log: EventLog, id: string, after?: string) {
  const following = await log.follow(id, after)
  if (following === 'not a cursor' || !following.recovered) throw new Error('Cannot follow')
  const { subscription } = following
  const seqs: number[] = []
  const values: unknown[] = []
  let wake = () => {}
  const sink = {
    write(entries: { seq: number; chunk: string }[]) {
      seqs.push(...entries.map(({ seq }) => seq))
      values.push(...entries.map(valueIn))
      wake()
      return true
    },
    isFull: () => false,
    drained: () => Promise.resolve(),
  }
  subscription.start(sink, error => t.fail(String(error)))
  t.teardown(() => subscription.close())
  async function until(count: number) {
    while (seqs.length < count)
      await new Promise<void>(resolve => {
        wake = resolve
      })
  }
  return { seqs, values, until, close: subscription.close }
}
