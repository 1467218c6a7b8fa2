import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import t from 'tap'
import { createSseParser, type SseItem } from '../../../src/services/upstream/sse.ts'

const CAP = 1 << 20

function parse(chunks: (Uint8Array | string)[], maxFrameBytes = CAP) {
  const parser = createSseParser({ maxFrameBytes })
  const items: SseItem[] = chunks.flatMap(chunk => parser.push(Buffer.from(chunk)))
  return { items, complete: parser.complete() }
}

const messages = (items: SseItem[]) => items.flatMap(item => (item.kind === 'message' ? [item.data] : []))

t.test('the rules, each by its bytes', async t => {
  const cases: [string, string, string[]][] = [
    ['LF', 'data: a\n\ndata: b\n\n', ['a', 'b']],
    ['CRLF', 'data: a\r\n\r\ndata: b\r\n\r\n', ['a', 'b']],
    ['CR', 'data: a\r\rdata: b\r\r', ['a', 'b']],
    ['mixed ends', 'data: a\r\ndata: b\n\rdata: c\n\n', ['a\nb', 'c']],
    ['a BOM, once', '\ufeffdata: a\n\n\ufeffdata: b\n\n', ['a']],
    ['no space, one space, two', 'data:a\n\ndata: a\n\ndata:  a\n\n', ['a', 'a', ' a']],
    ['several data lines', 'data: a\ndata\ndata:\ndata: b\n\n', ['a\n\n\nb']],
    ['an empty payload', 'data:\n\ndata\n\n', ['', '']],
    ['other fields', 'event: x\nid: 1\nretry: 5\nfoo\n:c\ndata: a\n\n', ['a']],
    ['fields without data', 'event: x\n\ndata: a\n\n', ['a']],
    ['names are exact', 'Data: a\ndata : b\n data: c\ndatax: d\n\n', []],
    ['line separators inside JSON', 'data: "\u2028\u2029\u0085"\n\n', ['"\u2028\u2029\u0085"']],
    ['an incomplete last frame', 'data: a\n\ndata: b\n', ['a']],
    ['an unfinished last line', 'data: a\n\ndata: b', ['a']],
  ]
  for (const [name, text, expected] of cases) t.same(messages(parse([text]).items), expected, name)
})

t.test('comments are reported, so that silence can be told from life', async t => {
  t.same(parse([': ping\n\n:\n']).items, [{ kind: 'comment' }, { kind: 'comment' }])
})

t.test('whether the stream may stop here', async t => {
  const complete: [string, boolean][] = [
    ['', true],
    ['data: a\n\n', true],
    ['data: a\r\r', true],
    ['data: a\n\n\n\n: bye\n', true],
    ['data: a\n\n: by', true],
    ['data: a\n', false],
    ['data: a', false],
    ['data: a\n\nd', false],
    ['data: a\n\nevent: x\n', false],
    ['data: a\r\n\r', true],
  ]
  for (const [text, expected] of complete) t.equal(parse([text]).complete, expected, JSON.stringify(text))
})

t.test('a frame over the cap ends it while it is still arriving', async t => {
  const over = (chunks: string[], cap = 100) => parse(chunks, cap).items.at(-1)?.kind === 'oversized'
  const piece = 'x'.repeat(30)
  t.ok(over(['data: ', piece, piece, piece, piece]), 'one endless line')
  t.ok(over([': ', piece, piece, piece, piece]), 'an endless comment')
  t.ok(over(['foo', piece, piece, piece, piece]), 'an endless unknown field')
  t.ok(over(Array(40).fill('data:x\n')), 'endless lines')
  t.ok(over(Array(40).fill('data\n')), 'endless empty lines')
  t.ok(over([`data: ${'é'.repeat(60)}\n\n`]), 'counted in bytes, even when it is complete')
  t.notOk(over(Array(40).fill(`data: ${piece}\n\n`)), 'many frames')
  t.notOk(over(Array(40).fill(`: ${piece}\n`)), 'many comments')
  t.notOk(over(Array(40).fill(`event: ${piece}\n`)), 'fields that nobody keeps')
  const parser = createSseParser({ maxFrameBytes: 10 })
  t.same(parser.push(Buffer.from('data: a\n\ndata: 0123456789\n\ndata: b\n\n')), [
    { kind: 'message', data: 'a' },
    { kind: 'oversized' },
  ])
  t.same(parser.push(Buffer.from('\n\ndata: c\n\n')), [], 'nothing after it')
})

t.test('a large frame in tiny chunks stays linear', async t => {
  const text = `data: ${'x'.repeat(200_000)}\n\n`
  const chunks = Array.from({ length: text.length / 20 + 1 }, (_, i) => text.slice(i * 20, i * 20 + 20))
  const begun = performance.now()
  t.equal(messages(parse(chunks).items)[0]?.length, 200_000)
  t.ok(performance.now() - begun < 500)
})

const fragment = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom('data:', 'data: ', 'data', '\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n'),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(':', ': c', 'id: 1', 'event: e', 'retry: 9', 'foo', '\ufeff', ' ', '\0'),
  },
  { weight: 3, arbitrary: fc.constantFrom('a', '{"text":"é"}', '映像', '🎬', '\u2028', '"error":') },
)
const bytes = fc.oneof(
  { weight: 5, arbitrary: fc.array(fragment, { maxLength: 30 }).map(parts => Buffer.from(parts.join(''))) },
  {
    weight: 1,
    arbitrary: fc
      .uint8Array({ maxLength: 40 })
      .map(noise => Buffer.concat([Buffer.from('data: '), noise, Buffer.from('\n\n')])),
  },
)
const cuts = fc.array(fc.nat(60), { maxLength: 12 })

function split(whole: Buffer, at: number[]): Buffer[] {
  const points = [...new Set([0, ...at.filter(point => point < whole.length), whole.length])].sort(
    (a, b) => a - b,
  )
  return points.slice(1).map((end, i) => whole.subarray(points[i], end))
}

t.test('any chunking gives the same items', async () => {
  fc.assert(
    fc.property(bytes, cuts, (whole, at) => {
      const once = parse([whole])
      const cut = parse(split(whole, at))
      return JSON.stringify(once) === JSON.stringify(cut)
    }),
    { numRuns: 10_000 },
  )
})

t.test('the same messages as eventsource-parser', async () => {
  fc.assert(
    fc.property(bytes, cuts, (whole, at) => {
      const theirs: string[] = []
      const parser = createParser({ onEvent: event => theirs.push(event.data) })
      const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
      for (const chunk of split(whole, at)) parser.feed(decoder.decode(chunk, { stream: true }))
      return JSON.stringify(messages(parse(split(whole, at)).items)) === JSON.stringify(theirs)
    }),
    { numRuns: 5000 },
  )
})
