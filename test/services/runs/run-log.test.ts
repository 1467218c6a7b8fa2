import { randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t, { type Test } from 'tap'
import { insertProject } from '../../../src/db/projects.ts'
import { insertRun, loadRun, takeRun, updateRun } from '../../../src/db/runs.ts'
import { insertUser } from '../../../src/db/users.ts'
import { type Chunk, custom } from '../../../src/services/events/event.ts'
import { createEventLog, type EventLog } from '../../../src/services/events/log.ts'
import { createRunLog, LostRunError } from '../../../src/services/runs/run-log.ts'
import { fileDatabase } from '../accounts/stage.ts'

const CUT_OFF = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })

const start: Chunk = { type: 'TEXT_MESSAGE_START', messageId: 'm1', role: 'assistant' }
const say = (delta: string, messageId = 'm1'): Chunk => ({ type: 'TEXT_MESSAGE_CONTENT', messageId, delta })
const end: Chunk = { type: 'TEXT_MESSAGE_END', messageId: 'm1' }
const note = (value: number) => custom('run.progress', value)

async function setStage(t: Test) {
  const { url, database } = await fileDatabase(t)
  const { db } = database
  const log = await createEventLog({ database, url, onError: () => {}, hints: false })
  t.teardown(() => log.close())
  const { id: userId } = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language: 'en' })
  const project = await insertProject(db, { id: randomUUIDv7(), userId, name: 'Holiday', language: 'en' })
  const { id } = await insertRun(db, {
    id: randomUUIDv7(),
    projectId: project.id,
    userId,
    platform: 'web',
    text: 'Add music',
    state: 'running',
  })

  /** What the connection does to the next transactions; nothing, when there is nothing left. */
  const troubles: ('commit unheard' | 'not committed' | Promise<void>)[] = []
  async function shakily<T>(commit: () => Promise<T>): Promise<T> {
    const trouble = troubles.shift()
    if (trouble === 'not committed') throw CUT_OFF
    await trouble
    const result = await commit()
    if (trouble === 'commit unheard') throw CUT_OFF
    return result
  }
  const shaky: EventLog = {
    ...log,
    transaction: work => shakily(() => log.transaction(work)),
    write: batch => shakily(() => log.write(batch)),
  }

  return {
    troubles,
    id,
    projectId: project.id,
    /** The run's log as the worker of this attempt has it. */
    async open(attempt: number) {
      const run = await takeRun(db, id, attempt)
      return createRunLog({ db, log: shaky, run: run! })
    },
    row: async () => (await loadRun(db, id))!,
    async written() {
      const page = await log.page(project.id, undefined, 200)
      if (page === 'not a cursor') throw new Error(page)
      t.ok(page.entries.every(entry => entry.runId === id))
      return page.entries.map(entry => JSON.parse(entry.chunk))
    },
  }
}

/** The chunks as if each message had been written in one piece. */
function joined(chunks: Chunk[]): Chunk[] {
  const all: Chunk[] = []
  for (const chunk of chunks) {
    const last = all.at(-1)
    if (chunk.type === 'TEXT_MESSAGE_CONTENT' && last?.type === chunk.type) last.delta += chunk.delta
    else all.push({ ...chunk })
  }
  return all
}

/** Everything that was pushed is written. */
const flush = (runLog: { transaction(work: () => Promise<void>): Promise<void> }) =>
  runLog.transaction(async () => {})

t.test('what is pushed is written in its order, and pieces of one message are joined', async t => {
  const { open, written, row } = await setStage(t)
  const runLog = await open(1)
  runLog.push([start, say('Hello'), say(', '), say('world')])
  runLog.push([])
  await flush(runLog)
  t.equal((await row()).openMessageId, 'm1')
  runLog.push([say('.'), end, note(1), say('x', 'm2'), say('y', 'm3')])
  await flush(runLog)
  t.same(await written(), [
    start,
    say('Hello, world'),
    say('.'),
    end,
    note(1),
    say('x', 'm2'),
    say('y', 'm3'),
  ])
  t.equal((await row()).openMessageId, null, 'nothing is left to be closed')
})

t.test('what comes during a commit goes together with the next one', async t => {
  const { open, written, row, troubles } = await setStage(t)
  const runLog = await open(1)
  const slow = Promise.withResolvers<void>()
  troubles.push(slow.promise)
  runLog.push([start, say('0')])
  await new Promise(setImmediate)
  for (let i = 1; i <= 500; i++) runLog.push([say(` ${i}`)])
  await runLog.ready()
  slow.resolve()
  await flush(runLog)
  const chunks = await written()
  t.equal(chunks.length, 3)
  t.equal(chunks[1].delta + chunks[2].delta, Array.from({ length: 501 }, (_, i) => i).join(' '))
  t.ok((await row()).logWrites <= 3, 'two commits for five hundred pushes, and the flush')
})

t.test('a run that talks fast arrives in fewer pieces, which join to what it said', async t => {
  const { open, written, row } = await setStage(t)
  const runLog = await open(1)
  const words = Array.from({ length: 600 }, (_, i) => ` ${i}`)
  runLog.push([start])
  for (const [i, word] of words.entries()) {
    runLog.push([say(word)])
    if (i % 3 === 0) await new Promise(setImmediate)
  }
  runLog.push([end, note(1)])
  await flush(runLog)
  const chunks = await written()
  t.ok(chunks.length < 100, `${chunks.length} entries`)
  t.same(joined(chunks), [start, say(words.join('')), end, note(1)])
  t.equal((await row()).openMessageId, null)
})

t.test('a reader that is faster than the database waits', async t => {
  const { open, written, troubles } = await setStage(t)
  const runLog = await open(1)
  const slow = Promise.withResolvers<void>()
  troubles.push(slow.promise)
  runLog.push([note(0)])
  await new Promise(setImmediate)
  runLog.push(Array.from({ length: 2_001 }, (_, i) => note(i + 1)))
  let room = false
  const ready = runLog.ready().then(() => {
    room = true
  })
  await new Promise(resolve => setTimeout(resolve, 20))
  t.notOk(room)
  slow.resolve()
  await ready
  t.equal((await written()).length, 200, 'a page of what was written by then')
})

t.test('so does one whose text is more than the database takes at once', async t => {
  const { open, written, troubles } = await setStage(t)
  const runLog = await open(1)
  const slow = Promise.withResolvers<void>()
  troubles.push(slow.promise)
  runLog.push([start])
  await new Promise(setImmediate)
  const text = 'word '.repeat(10_000)
  runLog.push([say(text)])
  let room = false
  const ready = runLog.ready().then(() => {
    room = true
  })
  await new Promise(resolve => setTimeout(resolve, 20))
  t.notOk(room)
  slow.resolve()
  await ready
  t.strictSame(await written(), [start, say(text)])
})

t.test('rows and log change together, or not at all', async t => {
  const { open, written, row, id, projectId } = await setStage(t)
  const runLog = await open(1)
  runLog.push([note(1)])
  const result = await runLog.transaction(async (tx, append) => {
    await append(projectId, [note(2)], id)
    return updateRun(tx, id, { summary: 'changed' })
  })
  t.equal(result.summary, 'changed')
  t.same(await written(), [note(1), note(2)])
  const failed = runLog.transaction(async (tx, append) => {
    await append(projectId, [note(3)], id)
    await updateRun(tx, id, { summary: 'changed again' })
    throw new Error('no')
  })
  await t.rejects(failed, { message: 'no' })
  t.equal((await row()).summary, 'changed')
  t.same(await written(), [note(1), note(2)])
})

t.test('text that was to be written with a change that failed is written all the same', async t => {
  const { open, written, row, troubles } = await setStage(t)
  const runLog = await open(1)
  const slow = Promise.withResolvers<void>()
  troubles.push(slow.promise)
  runLog.push([start])
  await new Promise(setImmediate)
  const failed = runLog.transaction(async () => {
    throw new Error('the look failed')
  })
  runLog.push([say('Hello')])
  slow.resolve()
  await t.rejects(failed, { message: 'the look failed' })
  runLog.push([say(', world'), end])
  await flush(runLog)
  t.same(joined(await written()), [start, say('Hello, world'), end])
  t.equal((await row()).openMessageId, null)
})

t.test('a worker that lost the run writes nothing', async t => {
  const { open, written, row, id } = await setStage(t)
  const first = await open(1)
  first.push([start, say('from the first')])
  await flush(first)
  const second = await open(2)
  first.push([say(', too late')])
  await t.rejects(flush(first), LostRunError)
  await t.rejects(first.ready(), LostRunError, 'and whoever reads the stream is told')
  await t.rejects(
    first.transaction(tx => updateRun(tx, id, { state: 'completed' })),
    LostRunError,
  )
  t.match(await row(), { state: 'running', attempt: 2, openMessageId: 'm1' })

  second.push([end])
  await flush(second)
  t.same(await written(), [start, say('from the first'), end])
})

t.test('a commit whose answer was lost is not written twice', async t => {
  const { open, written, troubles } = await setStage(t)
  const runLog = await open(1)
  troubles.push('commit unheard')
  runLog.push([start, say('once')])
  await flush(runLog)
  runLog.push([end])
  await flush(runLog)
  t.same(await written(), [start, say('once'), end])
})

t.test('what was not committed is written when the database is back', async t => {
  const { open, written, troubles } = await setStage(t)
  const runLog = await open(1)
  troubles.push('not committed')
  runLog.push([start, say('once')])
  await flush(runLog)
  t.same(await written(), [start, say('once')])
})

t.test('a change whose commit was unheard is not made twice, and no text after it is lost', async t => {
  const { open, written, row, troubles, id } = await setStage(t)
  const runLog = await open(1)
  const slow = Promise.withResolvers<void>()
  troubles.push(slow.promise, 'commit unheard')
  runLog.push([start])
  await new Promise(setImmediate)
  const spent = sql`update runs set credits_after = coalesce(credits_after, 0) + 1 where id = ${id}`
  const change = runLog.transaction(async tx => {
    await tx.execute(spent)
    return 'made'
  })
  runLog.push([say('Hello')])
  slow.resolve()
  while (troubles.length > 0) await new Promise(setImmediate)
  runLog.push([say(', world')])
  t.equal(await change, 'made', 'what it came to is known all the same')
  runLog.push([end])
  await flush(runLog)
  t.equal((await row()).creditsAfter, 1)
  t.same(joined(await written()), [start, say('Hello, world'), end])
})

t.test('a database that is gone for good ends the writing', { timeout: 20_000 }, async t => {
  const { open, troubles, written } = await setStage(t)
  const runLog = await open(1)
  const broken = Promise.reject(new Error('disk full'))
  broken.catch(() => {})
  troubles.push(broken)
  runLog.push([note(1)])
  await t.rejects(flush(runLog), { message: 'disk full' })
  await t.rejects(runLog.ready(), { message: 'disk full' })
  runLog.push([note(2)])
  await t.rejects(flush(runLog), { message: 'disk full' }, 'nothing is written after a hole')
  t.same(await written(), [])
})
