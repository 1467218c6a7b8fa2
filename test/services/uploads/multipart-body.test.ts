import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import t from 'tap'
import { BODY_LIMITS, type FileBody, openBody } from '../../../src/services/uploads/multipart-body.ts'

const quick = { ...BODY_LIMITS, minBytes: 100, windowMs: 40, discardBytes: 1_000, discardMs: 40 }
const sourceOf = (...chunks: string[]) => Readable.from(chunks.map(chunk => Buffer.from(chunk)))

// The pace of a body keeps no process alive, and here no socket does.
const alive = setInterval(() => {}, 1_000)
t.teardown(() => clearInterval(alive))

async function read(body: FileBody, onForwarded = () => {}): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body.stream(onForwarded)) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

t.test('what was peeked is the beginning of what is read', async t => {
  for (const chunks of [['abcdef'], ['ab', 'cd', 'ef'], ['a', 'bcdef'], ['abc', 'def']]) {
    const body = openBody(sourceOf(...chunks), 100)
    t.equal(Buffer.from(await body.peek(4)).toString(), 'abcd')
    t.notOk(body.begun)
    let steps = 0
    t.equal(await read(body, () => steps++), 'abcdef')
    t.match(body, { begun: true, ended: true, forwarded: 6, failure: null })
    t.equal(steps, chunks.length)
    t.notOk(body.signal.aborted)
  }
})

t.test('a file shorter than the peek, and an empty one', async t => {
  const short = openBody(sourceOf('abc'), 100)
  t.equal(Buffer.from(await short.peek(4)).toString(), 'abc')
  t.equal(await read(short), 'abc')
  const empty = openBody(Readable.from([]), 100)
  t.equal((await empty.peek(4)).length, 0)
  t.equal(await read(empty), '')
})

t.test('one byte too many breaks it off, and is not given', async t => {
  const exact = openBody(sourceOf('abcd', 'ef'), 6)
  t.equal(await read(exact), 'abcdef')
  const body = openBody(sourceOf('abcd', 'ef', 'g'), 6)
  const seen: string[] = []
  await t.rejects(async () => {
    for await (const chunk of body.stream(() => {})) seen.push(Buffer.from(chunk).toString())
  })
  t.same(seen, ['abcd', 'ef'])
  t.match(body, { failure: 'too_large', ended: false })
  t.ok(body.signal.aborted)
  const head = openBody(sourceOf('abcdefg'), 6)
  await t.rejects(head.peek(4))
  t.equal(head.failure, 'too_large')
})

t.test('a client that leaves is noticed while nobody reads', async t => {
  const source = new PassThrough()
  source.write('abc')
  const body = openBody(source, 100)
  const aborted = once(body.signal, 'abort')
  source.destroy()
  await aborted
  t.equal(body.failure, 'client_left')
  await t.rejects(read(body))
  t.equal(await body.discard(), false)
})

t.test('a client that sends too little in a window is given up', async t => {
  const silent = openBody(new PassThrough(), 100, quick)
  await t.rejects(silent.peek(4))
  t.equal(silent.failure, 'too_slow')

  const dripping = new PassThrough()
  const timer = setInterval(() => dripping.write('x'), 5)
  t.teardown(() => clearInterval(timer))
  const body = openBody(dripping, 100_000, quick)
  await t.rejects(read(body))
  t.equal(body.failure, 'too_slow')
  t.ok(body.forwarded > 0)
})

t.test('a reader that takes its time is not the client’s fault', async t => {
  const body = openBody(sourceOf('ab', 'cd'), 100, quick)
  const chunks = body.stream(() => {})
  await chunks.next()
  await new Promise(resolve => setTimeout(resolve, 2 * quick.windowMs))
  t.equal((await chunks.next()).done, false)
  t.equal((await chunks.next()).done, true)
  t.equal(body.failure, null)
})

t.test('the rest of a refused file is read away, if it is short', async t => {
  const short = openBody(sourceOf('abc', 'x'.repeat(500)), 10_000, quick)
  await short.peek(3)
  t.equal(await short.discard(), true)

  const long = sourceOf('abc', ...Array.from({ length: 100 }, () => 'x'.repeat(500)), 'end')
  const body = openBody(long, 1_000_000, quick)
  await body.peek(3)
  t.equal(await body.discard(), false)
  t.ok(long.destroyed)

  const stuck = new PassThrough()
  stuck.write('abc')
  const waiting = openBody(stuck, 10_000, quick)
  await waiting.peek(3)
  t.equal(await waiting.discard(), false, 'nor is it waited for')
  t.ok(stuck.destroyed)
})

t.test('it is not read faster than it is taken', async t => {
  let given = 0
  const source = new Readable({
    highWaterMark: 1_000,
    read() {
      given += 1_000
      this.push(given > 1_000_000 ? null : Buffer.alloc(1_000))
    },
  })
  const body = openBody(source, 10_000_000)
  await body.peek(10)
  const chunks = body.stream(() => {})
  await chunks.next()
  await new Promise(setImmediate)
  t.ok(given < 10_000, `${given} bytes were read for one chunk`)
  source.destroy()
})
