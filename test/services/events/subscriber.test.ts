import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import type { Entry } from '../../../src/services/events/event.ts'
import { createSubscriber, type Sink } from '../../../src/services/events/subscriber.ts'

/** A log, the head that was offered of it, and reads and drains that are answered when the script says so. */
function setScene(after = 0) {
  const log: Entry[] = []
  const taken: number[] = []
  const reads: { answer(): void; fail(error: Error): void }[] = []
  const drains: { settle(): void; fail(error: Error): void }[] = []
  const errors: unknown[] = []
  let last = 0
  let head = 0
  const sink: Sink & { full: boolean; onWrite(): void } = {
    full: false,
    onWrite: () => {},
    isFull: () => sink.full,
    write(entries) {
      taken.push(...entries.map(({ seq }) => seq))
      sink.onWrite()
      return !sink.full
    },
    drained: () => new Promise((resolve, reject) => drains.push({ settle: resolve, fail: reject })),
  }
  /** A query sees what was committed when it began, and its answer comes later. */
  function read(after: number): Promise<Entry[]> {
    const seen = log.filter(({ seq }) => seq > after).slice(0, 2)
    return new Promise((resolve, reject) => reads.push({ answer: () => resolve(seen), fail: reject }))
  }
  const start = () =>
    createSubscriber({
      after,
      onError: error => errors.push(error),
      source: { head: () => head, read },
      sink,
    })
  return {
    taken,
    reads,
    drains,
    errors,
    sink,
    start,
    expected: () => log.map(({ seq }) => seq).filter(seq => seq > after),
    /** The first entry may be a block that stands for more than itself. */
    commit(count: number, more = 0) {
      for (let i = 0; i < count; i++) {
        const firstSeq = last + 1
        last = i === 0 ? firstSeq + more : firstSeq
        log.push({ projectId: 'p', seq: last, firstSeq, runId: null, at: new Date(0), chunk: '{}' })
      }
    },
    /** Removes the oldest entries, as retention does. */
    drop: (count: number) => log.splice(0, count),
    /** Without a subscriber: the channel's first look into the log. */
    offer(subscriber?: ReturnType<typeof start>) {
      const fresh = log.filter(({ seq }) => seq > head)
      head = last
      if (fresh.length > 0) subscriber?.offer(fresh)
    },
    async settle() {
      sink.full = false
      do {
        for (const { answer } of reads.splice(0)) answer()
        for (const { settle } of drains.splice(0)) settle()
        await turn()
      } while (reads.length + drains.length > 0)
    },
  }
}

const upTo = (max: number) => fc.integer({ min: 0, max })
const step = fc.oneof(
  fc.record({ kind: fc.constant('commit' as const), count: upTo(4), more: upTo(1) }),
  fc.constant({ kind: 'offer' as const }),
  fc.constantFrom(...(['answer', 'drain', 'fill', 'empty', 'turn'] as const)).map(kind => ({ kind })),
)

t.test('in every order of reads, offers and drains: each entry once, in order', async t => {
  const steps = fc.array(step, { minLength: 5, maxLength: 40 })
  const scenes = fc.record({ before: upTo(6), more: upTo(2), after: upTo(8), known: fc.boolean() })
  const property = fc.asyncProperty(steps, scenes, async (steps, { before, more, after, known }) => {
    const scene = setScene(Math.min(after, before))
    scene.commit(before)
    scene.commit(1, more)
    // Or else the reader comes from an instance that knows more: it is ahead of what was offered here.
    if (known) scene.offer()
    const subscriber = scene.start()
    for (const step of steps) {
      if (step.kind === 'commit') scene.commit(step.count, step.more)
      else if (step.kind === 'offer') scene.offer(subscriber)
      else if (step.kind === 'answer') scene.reads.shift()?.answer()
      else if (step.kind === 'drain') scene.drains.shift()?.settle()
      else if (step.kind === 'turn') await turn()
      else scene.sink.full = step.kind === 'fill'
      if (scene.reads.length + scene.drains.length > 1) throw new Error('Reads and drains overlap')
    }
    scene.offer(subscriber)
    await scene.settle()
    return String(scene.taken) === String(scene.expected()) && scene.errors.length === 0
  })
  await t.resolves(fc.assert(property, { numRuns: 1_500 }))
})

t.test('a full sink gets nothing more until it has drained, and then everything', async t => {
  const scene = setScene()
  const subscriber = scene.start()
  scene.sink.onWrite = () => {
    scene.sink.full = true
  }
  async function drain() {
    scene.sink.full = false
    scene.drains.shift()!.settle()
    await turn()
  }
  for (let i = 0; i < 5; i++) {
    scene.commit(1)
    scene.offer(subscriber)
  }
  await turn()
  t.strictSame(scene.taken, [1])
  t.equal(scene.reads.length, 0, 'nothing is read for it either')
  await drain()
  scene.reads.shift()!.answer()
  await turn()
  t.strictSame(scene.taken, [1, 2, 3], 'one page a drain')
  t.equal(scene.reads.length, 0)

  await drain()
  // Another reader on the same connection was quicker.
  scene.sink.full = true
  scene.reads.shift()!.answer()
  await turn()
  t.strictSame([scene.taken, scene.reads], [[1, 2, 3], []], 'what was read is not kept for it')
  await scene.settle()
  t.strictSame(scene.taken, scene.expected())
  scene.sink.full = true
  scene.commit(1)
  scene.offer(subscriber)
  t.equal(scene.taken.length, 5, 'nor is it given what is live')
  await scene.settle()
  t.strictSame(scene.taken, scene.expected())
})

t.test('closed while it reads, or from within a write that fills the sink, it ends', async t => {
  const reading = setScene()
  reading.commit(9)
  reading.offer()
  reading.start().close()
  await reading.settle()
  t.strictSame(reading.taken, [])

  const writing = setScene()
  const subscriber = writing.start()
  writing.sink.onWrite = () => {
    writing.sink.full = true
    subscriber.close()
  }
  for (let i = 0; i < 3; i++) {
    writing.commit(1)
    writing.offer(subscriber)
  }
  writing.drains.shift()?.settle()
  await turn()
  t.strictSame(writing.taken, [1])
  t.equal(writing.reads.length, 0)
})

t.test('trouble of one reader ends it, and is told to it alone', async t => {
  const trouble = new Error('gone')
  const reading = setScene()
  reading.commit(1)
  reading.offer()
  reading.start()
  reading.reads.shift()!.fail(trouble)
  await turn()
  t.strictSame(reading.errors, [trouble])

  const draining = setScene()
  const slow = draining.start()
  draining.sink.full = true
  draining.commit(1)
  draining.offer(slow)
  draining.drains.shift()!.fail(trouble)
  await turn()
  t.strictSame([draining.errors, draining.reads], [[trouble], []])

  const writing = setScene()
  const broken = writing.start()
  writing.sink.onWrite = () => {
    throw trouble
  }
  writing.commit(1)
  t.doesNotThrow(() => writing.offer(broken), 'whoever offers has others to serve')
  writing.commit(1)
  writing.offer(broken)
  t.strictSame([writing.errors, writing.taken], [[trouble], [1]])
})

t.test('a reader whose next entries were removed hears of it, and gets no part', async t => {
  const scene = setScene(2)
  scene.commit(6)
  scene.offer()
  scene.drop(4)
  scene.start()
  scene.reads.shift()!.answer()
  await turn()
  t.strictSame(scene.taken, [])
  t.match(scene.errors, [{ name: 'LostPositionError' }])
})
