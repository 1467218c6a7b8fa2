import { readdirSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import type { Chunk } from '../../../src/services/events/event.ts'
import { createNarrator } from '../../../src/services/narration/narrator.ts'
import { readFrame } from '../../../src/services/upstream/frames.ts'
import { createSseParser } from '../../../src/services/upstream/sse.ts'
import { alice, createClient, startOrigin } from '../upstream/origin.ts'
import { type Json, setStage, textOf } from './stage.ts'

const FIXTURES = new URL('../../fixtures/adk/', import.meta.url)
const NAMES = readdirSync(FIXTURES).filter(name => name.endsWith('.sse'))
const bytesOf = (name: string) => readFileSync(new URL(name, FIXTURES))

const SENTENCE = 'Trimming the intro to five seconds.'
// How a run ends whose stream was recorded, and what it said.
const ENDS: Record<string, { state: string; reply: string | null; code?: string }> = {
  'cut-inside-a-frame': { state: 'failed', reply: 'Trimming', code: 'outcome_unknown' },
  empty: { state: 'completed', reply: 'Nothing changed.' },
  'error-event.streaming-false': { state: 'failed', reply: null, code: 'rate_limited' },
  'error-event.streaming-true': { state: 'failed', reply: 'Trimming the intro', code: 'rate_limited' },
  'error-runner': { state: 'failed', reply: SENTENCE, code: 'upstream_unavailable' },
  'error-runner.style-py14': { state: 'failed', reply: 'Trimming', code: 'upstream_unavailable' },
  state: { state: 'completed', reply: SENTENCE },
  text: { state: 'completed', reply: SENTENCE },
  'text.crlf-framing': { state: 'completed', reply: 'Trimming the intro' },
  thought: { state: 'completed', reply: 'Visible answer.' },
  tool: { state: 'completed', reply: SENTENCE },
  'tool-only': { state: 'completed', reply: 'Nothing changed.' },
  unicode: { state: 'completed', reply: 'Zażółć 映像 🎬🏽‍🎤 \u2028sep\u2029 quote " \\ \n newline' },
}

t.test('each recorded stream as a run: legal in AG-UI, with and without streaming the same', async t => {
  let body = Buffer.alloc(0)
  const origin = await startOrigin(t, (request, response) => {
    request.resume()
    request.on('end', () => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.end(body)
    })
  })
  const recorded = createClient(t, origin.url)
  const stage = await setStage(t, {
    limits: { silentEndMs: 0 },
    upstream: real => ({ ...real, run: (_, message) => recorded.run(alice, message) }),
  })
  await stage.openSession()
  for (const name of NAMES) {
    const plain = name.replace(/\.sse$/, '')
    const expected = ENDS[plain] ?? ENDS[plain.replace(/\.streaming-(true|false)$/, '')]
    t.ok(expected, `${name} has an expectation`)
    body = bytesOf(name)
    const run = await stage.say(`Play ${name}`)
    await stage.work(run.id)
    const { state, reply, problem } = await stage.row(run.id)
    t.match({ state, reply, code: problem?.code }, { code: undefined, ...expected }, name)
    const chunks = await stage.story(run.id)
    t.notMatch(JSON.stringify(chunks), /trim_clip|apply_silently|get_project_state|Thinking|boom/, name)
  }
})

t.test('hostile frames neither kill a run nor block its log', async t => {
  const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`
  const text = (value: string) =>
    `data: ${JSON.stringify({ author: 'nemo_agent', content: { parts: [{ text: value }] } })}\n\n`
  const frames = [
    text('One\0two \ud800three. '),
    'data: {"author":"nemo_agent","content":{"parts":[{"text":"four \\ud83c\\u0000. "}]}}\n\n',
    `data: {"author":"nemo_agent","timestamp":1e999,"usageMetadata":{"n":${'9'.repeat(5_000)}},"actions":{"stateDelta":{"draft":${deep(50_000)}}}}\n\n`,
    `data: ${deep(100_000)}\n\n`,
    `data: ${'['.repeat(200_000)}\n\n`,
    'data: {"__proto__":{"author":"user"},"constructor":1}\n\n',
    text('long '.repeat(400_000)),
    text('The end.'),
  ]
  const origin = await startOrigin(t, (request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(frames.join(''))
  })
  const hostile = createClient(t, origin.url)
  const stage = await setStage(t, {
    upstream: real => ({ ...real, run: (_, message) => hostile.run(alice, message) }),
  })
  const run = await stage.say('Hello')
  await stage.work(run.id)
  const { state, reply } = await stage.row(run.id)
  t.equal(state, 'completed')
  t.match(reply, /^Onetwo \ufffdthree\./)
  t.equal(textOf(await stage.story(run.id)).length, 1024 * 1024, 'a run has 1 MiB of text')
})

t.test('the recorded body of a lost session is one', async t => {
  const origin = await startOrigin(t, (request, response) => {
    request.resume()
    response.writeHead(404, { 'content-type': 'application/json' })
    response.end(bytesOf('missing-session.body.json'))
  })
  const { signal } = new AbortController()
  const answer = await createClient(t, origin.url).run(alice, { sessionId: '1', text: 'Hello', signal })
  t.same(answer, { kind: 'session' })
})

/** The chunks of a stream that arrives in pieces, without what differs between two tellings. */
function chunksOf(pieces: Uint8Array[]): Json[] {
  const parser = createSseParser({ maxFrameBytes: 1 << 24 })
  const narrator = createNarrator({ projectId: 'p', language: 'en' })
  const chunks: Chunk[] = []
  for (const piece of pieces)
    for (const item of parser.push(piece))
      for (const meaning of item.kind === 'message' ? readFrame(item.data) : [])
        if (meaning.kind === 'text') chunks.push(...narrator.say(meaning.text, meaning.partial))
        else if (meaning.kind === 'tool') chunks.push(...narrator.endTurn())
  chunks.push(...narrator.finish())
  return chunks.map(({ messageId, ...chunk }: Json) => chunk)
}

function cut(bytes: Uint8Array, places: number[]): Uint8Array[] {
  const ends = [...new Set(places.map(place => place % (bytes.length + 1))), bytes.length].toSorted(
    (a, b) => a - b,
  )
  return ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end))
}

t.test('any chunking of any recorded stream gives the same chunks', async () => {
  const whole = new Map(NAMES.map(name => [name, JSON.stringify(chunksOf([bytesOf(name)]))]))
  const places = fc.array(fc.nat(4_000), { maxLength: 40 })
  fc.assert(
    fc.property(fc.constantFrom(...NAMES), places, (name, places) => {
      return JSON.stringify(chunksOf(cut(bytesOf(name), places))) === whole.get(name)
    }),
    { numRuns: 500 },
  )
})

t.test('any interleaving of partial and whole text tells the text once', async () => {
  const sentence = fc.constantFrom(
    'I trimmed the clip. ',
    'It is 3 s long. ',
    '已添加标题。',
    'Dr. No is gone! ',
    '🎬 ',
  )
  const turn = fc.record({
    text: fc.array(sentence, { minLength: 1, maxLength: 4 }).map(parts => parts.join('')),
    /** How much of it comes in partials, and in pieces of which size. */
    streamed: fc.double({ min: 0, max: 1, noNaN: true }),
    size: fc.integer({ min: 1, max: 12 }),
    repeated: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(turn, { minLength: 1, maxLength: 4 }), turns => {
      const narrator = createNarrator({ projectId: 'p', language: 'en' })
      const chunks: Chunk[] = []
      for (const { text, streamed, size, repeated } of turns) {
        const until = repeated ? Math.floor(text.length * streamed) : text.length
        for (let at = 0; at < until; at += size)
          chunks.push(...narrator.say(text.slice(at, Math.min(at + size, until)), true))
        chunks.push(...(repeated ? narrator.say(text, false) : narrator.endTurn()))
      }
      chunks.push(...narrator.finish())
      return textOf(chunks) === turns.map(({ text }) => text).join('')
    }),
    { numRuns: 500 },
  )
})
