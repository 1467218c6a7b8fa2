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
  const hub = createHub(log, error => errors.push(error))
  t.teardown(() => hub.close())
  return Object.assign(scene, {
    hub,
    calls,
    errors,
    /** A gap leaves numbers that no entry has. */
    commit(count = 1, gap = 0): Entry[] {
      last += gap
      const fresh = Array.from({ length: count }, () => {
        return { projectId: 'p', seq: ++last, runId: null, at: new Date(0), chunk: '{}' }
      })
      entries.push(...fresh)
      return fresh
    },
    async follow(after: number | null = null) {
      const subscription = await hub.subscribe('p', after)
      const taken: number[] = []
      subscription.start(
        {
          write: entries => {
            taken.push(...entries.map(({ seq }) => seq))
            return true
          },
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

t.test('an empty page of a gap does not skip what is committed meanwhile', async t => {
  const scene = setScene(t)
  const { taken } = await scene.follow()
  scene.held = true
  scene.commit(0, 5)
  scene.hub.hint('p', 5)
  scene.hub.deliver(scene.commit(2))
  await scene.release()
  t.strictSame(taken, [6, 7])
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
  t.strictSame(calls, ['heads '])
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
  t.strictSame(scene.calls, ['heads '], 'who could not subscribe leaves no channel behind')

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
