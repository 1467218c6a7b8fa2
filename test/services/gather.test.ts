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
