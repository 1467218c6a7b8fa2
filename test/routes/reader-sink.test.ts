import { Duplex } from 'node:stream'
import { mock } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createReaderSink } from '../../src/routes/reader-sink.ts'
import type { Entry } from '../../src/services/events/event.ts'
import { sseFrames, webSocketFrames } from '../../src/services/events/frames.ts'

const entry = (seq: number, text = ''): Entry => ({
  projectId: '0198c2a4-7d1e-7b3c-8f00-0123456789ab',
  seq,
  runId: null,
  at: new Date(0),
  chunk: JSON.stringify({ text }),
})

/** A connection whose other side takes bytes when the test says so. */
function setScene(t: Test) {
  const writes: Buffer[] = []
  let take = () => {}
  let slow = 0
  const stream = new Duplex({
    read() {},
    write(bytes, _, done) {
      writes.push(bytes)
      take = done
    },
    writev(pieces, done) {
      writes.push(Buffer.concat(pieces.map(({ chunk }) => chunk)))
      take = done
    },
  })
  t.teardown(() => stream.destroy())
  const sink = createReaderSink({
    stream,
    framing: webSocketFrames,
    log: { epoch: 'e' },
    isOpen: () => true,
    tooSlow: () => slow++,
  })
  return { stream, sink, writes, take: () => take(), slow: () => slow }
}

t.test('what is written in one turn is one write', async t => {
  const { sink, writes } = setScene(t)
  const blocks = [[entry(1), entry(2)], [entry(3)]]
  for (const block of blocks) t.ok(sink.write(block))
  t.strictSame(writes, [])
  await turn()
  t.strictSame(writes, [Buffer.concat(blocks.map(block => webSocketFrames(block, 'e')))])
})

t.test('beyond 1 MiB it is full, and after 30 s too slow', async t => {
  const { sink, stream, take, slow } = setScene(t)
  t.ok(sink.write([entry(1, 'x'.repeat(500_000))]))
  t.notOk(sink.write([entry(2, 'x'.repeat(600_000))]))
  await turn()
  let drained = 0
  for (let i = 0; i < 2; i++) sink.drained().then(() => drained++)
  await turn()
  t.equal(drained, 0)
  take()
  while (drained < 2) await turn()
  t.equal(stream.writableLength, 0)

  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  sink.write([entry(3, 'x'.repeat(1_100_000))])
  await turn()
  for (let i = 0; i < 2; i++) sink.drained().then(() => drained++)
  mock.timers.tick(29_999)
  t.equal(slow(), 0)
  mock.timers.tick(1)
  await turn()
  t.strictSame([slow(), drained], [1, 4], 'told once, and nobody waits on')
})

t.test('a connection that closes is not waited for', async t => {
  const { sink, stream, slow } = setScene(t)
  sink.write([entry(1, 'x'.repeat(1_100_000))])
  await turn()
  const drained = sink.drained()
  stream.destroy()
  await drained
  await sink.drained()
  t.equal(slow(), 0)
})

t.test('frames of every length', async t => {
  for (const length of [0, 125, 126, 65_535, 65_536, 70_000]) {
    const empty = sseFrames([entry(1)], 'e').toString()
    const text = '🎬'.repeat(length / 4)
    const frame = webSocketFrames([entry(1, text)], 'e')
    t.equal(frame[0], 0x81, 'one whole text')
    const short = frame[1]!
    const [size, at] =
      short < 126
        ? [short, 2]
        : short === 126
          ? [frame.readUInt16BE(2), 4]
          : [Number(frame.readBigUInt64BE(2)), 10]
    t.equal(size, frame.length - at)
    t.equal(JSON.parse(frame.subarray(at).toString()).chunk.text, text)
    t.match(empty, /^id: \S+\ndata: \{.*\}\n\n$/)
  }
})
