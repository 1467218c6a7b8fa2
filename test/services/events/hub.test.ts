import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Entry } from '../../../src/services/events/event.ts'
import { createHub, type HubLog } from '../../../src/services/events/hub.ts'

/** A hub over a log in memory. While `held`, a read or a look at the head answers with what it saw, but later. */
function setScene(t: Test) {
  const entries: Entry[] = []
  const calls: string[] = []
  const errors: unknown[] = []
  const waiting: (() => void)[] = []
  const scene = { held: false, trouble: null as Error | null }
  let last = 0
  async function answer<T>(call: string, value: T): Promise<T> {
    calls.push(call)
    const { trouble } = scene
    if (scene.held) await new Promise<void>(resolve => waiting.push(resolve))
    if (trouble) throw trouble
    return value
  }
  const log: HubLog = {
    read: (_, after, limit) =>
      answer(`read ${after}`, entries.filter(({ seq }) => seq > after).slice(0, Math.min(limit, 2))),
    heads: ids => answer(`heads ${ids}`, new Map(ids.map(id => [id, last]))),
  }
  const hub = createHub(log, {
    onError: error => errors.push(error),
    onBackwards: () => told.backwards++,
  })
  t.teardown(() => hub.close())
  const told = Object.assign(scene, {
    hub,
    calls,
    errors,
    commit(count = 1): Entry[] {
      const fresh = Array.from({ length: count }, () => {
        return { projectId: 'p', seq: ++last, runId: null, at: new Date(0), chunk: '{}' }
      })
      entries.push(...fresh)
      return fresh
    },
    /** Makes one entry of those from `first` to `seq`. */
    compact(first: number, seq: number) {
      const at = entries.findIndex(entry => entry.seq === first)
      const block = { ...entries[at]!, seq, firstSeq: first }
      entries.splice(at, seq - first + 1, block)
    },
    /** What was written after `seq` has never been. */
    goBack(seq: number) {
      entries.splice(entries.findIndex(entry => entry.seq > seq))
      last = seq
    },
    backwards: 0,
    async follow(after: number | null = null) {
      const subscription = await hub.subscribe('p', after)
      if (!subscription) throw new Error('Cannot be continued')
      const taken: number[] = []
      subscription.start(
        {
          write: entries => {
            taken.push(...entries.map(({ seq }) => seq))
            return true
          },
          isFull: () => false,
          drained: () => Promise.resolve(),
        },
        error => errors.push(error),
      )
      return { taken, from: subscription.from, close: subscription.close }
    },
    async release() {
      scene.held = false
      for (const resolve of waiting.splice(0)) resolve()
      for (let i = 0; i < 10; i++) await turn()
    },
  })
  return told
}

t.test('what this instance commits comes from memory, in the same turn', async t => {
  const { hub, calls, commit, follow } = setScene(t)
  commit(3)
  const [one, two] = [await follow(), await follow()]
  calls.length = 0
  hub.deliver(commit(2))
  t.strictSame([one.from, one.taken, two.taken], [3, [4, 5], [4, 5]])
  t.strictSame(calls, [])
})

t.test('heard of in another order than committed: still once each, in order', async t => {
  const { hub, commit, follow, release } = setScene(t)
  const { taken } = await follow()
  const [first, second, third] = [commit(), commit(2), commit()]
  hub.deliver(third)
  hub.deliver(first)
  hub.hint('p', 2)
  hub.deliver(second)
  await release()
  t.strictSame(taken, [1, 2, 3, 4])
})

t.test('committed during the first look into the log', async t => {
  const scene = setScene(t)
  scene.held = true
  const following = scene.follow(0)
  scene.hub.deliver(scene.commit(2))
  await scene.release()
  const { taken } = await following
  await scene.release()
  t.strictSame(taken, [1, 2])
})

t.test('who comes back is served from memory, and all who come together share one look', async t => {
  const { hub, calls, commit, follow, release } = setScene(t)
  const first = await follow()
  hub.deliver(commit(5))
  calls.length = 0
  const others = await Promise.all([0, 1, 2, 3, 4, 5].map(after => follow(after)))
  await release()
  for (const [after, { taken }] of others.entries()) t.strictSame(taken, [1, 2, 3, 4, 5].slice(after))
  t.strictSame(calls, [], 'no question to the log')

  for (const { close } of [first, ...others]) close()
  hub.deliver(commit(2))
  const back = await Promise.all([5, 5, 3, 7].map(after => follow(after)))
  await release()
  t.strictSame(
    back.map(({ taken }) => taken),
    [[6, 7], [6, 7], [4, 5, 6, 7], []],
  )
  t.strictSame(calls, ['heads p'], 'after the last one left, one look whether others have written')
})

t.test('a channel that nobody read while others wrote catches up', async t => {
  const { hub, commit, follow, release } = setScene(t)
  const { close } = await follow()
  hub.deliver(commit(2))
  close()
  commit(3)
  hub.deliver(commit())
  const { taken } = await follow(1)
  await release()
  t.strictSame(taken, [2, 3, 4, 5, 6])
})

t.test('everybody who was away reads the same page once', async t => {
  const scene = setScene(t)
  scene.commit(4)
  const readers = await Promise.all(Array.from({ length: 50 }, () => scene.follow(2)))
  await scene.release()
  for (const { taken } of readers) t.strictSame(taken, [3, 4])
  t.strictSame(scene.calls, ['heads p', 'read 2'])
})

t.test('a position that is not there any more', async t => {
  const { hub, commit, compact, follow } = setScene(t)
  commit(9)
  compact(3, 6)
  for (const inside of [3, 4, 5]) t.equal(await hub.subscribe('p', inside), null, 'within a block')
  t.equal(await hub.subscribe('p', 10), null, 'ahead of the log')
  for (const [after, seqs] of [
    [2, [6, 7, 8, 9]],
    [6, [7, 8, 9]],
    [9, []],
  ] as const) {
    const { taken } = await follow(after)
    for (let i = 0; i < 10; i++) await turn()
    t.strictSame(taken, seqs)
  }
})

t.test('a log that goes backwards is noticed, and ends its readers', async t => {
  const scene = setScene(t)
  const { taken } = await scene.follow()
  scene.hub.deliver(scene.commit(3))
  await scene.hub.catchUp()
  t.equal(scene.backwards, 0)
  scene.goBack(1)
  await scene.hub.catchUp()
  t.equal(scene.backwards, 1)
  scene.hub.reset()
  t.match(scene.errors, [{ name: 'LostPositionError' }])
  scene.commit()
  const again = await scene.follow(0)
  await scene.release()
  t.strictSame(
    [taken, again.taken],
    [
      [1, 2, 3],
      [1, 2],
    ],
    'nothing of the old one is left in memory',
  )
})

t.test('compacted beyond what this instance knows: its readers begin anew', async t => {
  const scene = setScene(t)
  const { taken } = await scene.follow()
  scene.hub.deliver(scene.commit(2))
  scene.commit(3)
  scene.compact(2, 4)
  scene.hub.hint('p', 5)
  await scene.release()
  t.strictSame(taken, [1, 2])
  t.match(scene.errors, [{ name: 'LostPositionError' }])
})

t.test('a project without readers costs nothing', async t => {
  const { hub, calls, commit, follow, release } = setScene(t)
  hub.deliver(commit())
  hub.hint('p', 1)
  await hub.catchUp()
  const { close } = await follow()
  close()
  close()
  calls.length = 0
  hub.deliver(commit())
  hub.hint('p', 9)
  await hub.catchUp()
  await release()
  t.strictSame(calls, [])
})

t.test('the last reader’s leaving ends a long catch-up', async t => {
  const scene = setScene(t)
  const { taken, close } = await scene.follow()
  scene.commit(100)
  scene.held = true
  scene.hub.hint('p', 100)
  close()
  scene.calls.length = 0
  await scene.release()
  t.strictSame([taken, scene.calls], [[], []])
})

t.test('a database that fails', async t => {
  const scene = setScene(t)
  scene.trouble = new Error('no database')
  await t.rejects(scene.follow(), scene.trouble)
  scene.calls.length = 0
  await scene.hub.catchUp().catch(() => {})
  t.strictSame(scene.calls, [], 'who could not subscribe leaves no channel behind')

  scene.trouble = null
  const { taken } = await scene.follow()
  scene.commit(3)
  scene.trouble = new Error('no database')
  scene.hub.hint('p', 3)
  await scene.release()
  t.strictSame([taken, scene.errors], [[], [scene.trouble]])
  scene.trouble = null
  await scene.hub.catchUp()
  t.strictSame(taken, [1, 2, 3], 'the next look catches up')
})
