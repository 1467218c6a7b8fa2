import t from 'tap'
import { gather } from '../../src/services/gather.ts'

t.test('what is asked for at once is answered with one call, to each its own', async t => {
  for (const ms of [0, 5]) {
    const calls: number[][] = []
    const square = gather(ms, async (asked: number[]) => {
      calls.push(asked)
      return asked.map(n => n * n)
    })
    t.same(await Promise.all([1, 2, 3].map(square)), [1, 4, 9])
    t.equal(await square(4), 16)
    t.same(calls, [[1, 2, 3], [4]])
  }
})

t.test('who comes alone waits for nobody', async t => {
  const ask = gather(3_600_000, async (asked: string[]) => asked)
  t.equal(await ask('a'), 'a')
})

t.test('when many come, there is one call in each span of time', async t => {
  const MS = 50
  const calls: number[] = []
  const ask = gather(MS, async (asked: number[]) => {
    calls.push(performance.now())
    return asked
  })
  const answers: Promise<number>[] = []
  for (let n = 0; calls.length < 4; n++) {
    answers.push(ask(n))
    await new Promise(resolve => setImmediate(resolve))
  }
  t.same(
    await Promise.all(answers),
    answers.map((_, n) => n),
  )
  for (const [i, at] of calls.entries()) if (i > 0) t.ok(at - calls[i - 1]! > MS - 5)
})

t.test('a call that fails fails for all who wait for it, and for nobody after', async t => {
  let down = true
  const ask = gather(0, async (asked: string[]) => {
    if (down) throw new Error('down')
    return asked
  })
  const both = await Promise.allSettled([ask('a'), ask('b')])
  t.match(both, [{ reason: { message: 'down' } }, { reason: { message: 'down' } }])
  down = false
  t.equal(await ask('c'), 'c')
})
