/** A pattern can take hours over a text that was made for it. Every one of the source is tried, and every parser. */
import { glob, readFile } from 'node:fs/promises'
import t from 'tap'
import { refusalOf } from '../../src/routes/json-bodies.ts'
import { networkOf } from '../../src/routes/limits.ts'
import { scrub, scrubText } from '../../src/scrub.ts'
import { decodeCursor, storable } from '../../src/services/events/event.ts'
import { judgeMessage } from '../../src/services/messages/intents.ts'
import { withoutScreenWords } from '../../src/services/narration/gui-phrases.ts'
import { EN, ZH } from '../../src/services/narration/screen-rules.ts'
import { createSentenceHolder, sentencesOf } from '../../src/services/narration/sentences.ts'
import { shorten } from '../../src/services/timeline/summary.ts'
import { labelOf, nameInUrl, upstreamName } from '../../src/services/uploads/filenames.ts'
import { allowedUrl } from '../../src/services/uploads/urls.ts'
import { failureOfText } from '../../src/services/upstream/failures.ts'
import { cleanText } from '../../src/services/upstream/fields.ts'
import { readFrame } from '../../src/services/upstream/frames.ts'
import { cpuMs } from '../helpers/cpu.ts'

const ROOT = new URL('../../', import.meta.url).pathname
const LENGTH = 20_000
/** In ms of CPU. A pattern that looks at each character once, or a few times, takes a hundredth of it. */
const LIMIT = 50

/** The longest text that the patterns of these files are given; their own tests hold them to it. */
const LONGEST: Record<string, number> = {
  'src/services/narration/gui-phrases.ts': 2_000,
  'src/services/narration/screen-rules.ts': 2_000,
  'src/services/narration/sentences.ts': 64,
  'src/services/messages/intents.ts': 120,
}
/** Tried on nothing but what operators configure, or, the last one, on what has been parsed as JSON. */
const HARMLESS = new Set(['=+$', '\\/+$', String.raw`"(?:[^"\\]|\\.)*"(\s*:)?`])

const COMMENT = /\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*/g
const LITERAL =
  /(?<=[=(,:?[!&|{;]\s*|=>\s*|return\s+)\/(?![*/])((?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)\/([dgimsuvy]*)/g

async function patterns(): Promise<{ path: string; pattern: RegExp }[]> {
  const found: { path: string; pattern: RegExp }[] = []
  for await (const path of glob('src/**/*.ts', { cwd: ROOT })) {
    const source = (await readFile(ROOT + path, 'utf8')).replace(COMMENT, '')
    for (const [, body = '', flags] of source.matchAll(LITERAL))
      found.push({ path, pattern: new RegExp(body, flags) })
  }
  const rules = [EN, ZH].flatMap(rules => Object.values(rules).flat(2))
  for (const pattern of rules.filter(rule => rule instanceof RegExp))
    found.push({ path: 'src/services/narration/screen-rules.ts', pattern })
  return found
}

/** What is repeated: usual suspects, and whatever the pattern itself speaks of. */
function unitsFor({ source }: RegExp): string[] {
  const own = source.replace(/\\[a-zA-Z]|[\\^$*+?()[\]{}|]/g, ' ').match(/\S{1,12}/gu) ?? []
  const characters = own.flatMap(word => [word, word[0]!]).slice(0, 8)
  return [...new Set(['a', '0', ' ', '\t', '\n', '.', '"', ...characters])]
}

/** Once more when it was much: the process does other things, too. */
function cost(work: () => void): number {
  const ms = cpuMs(work)
  return ms > LIMIT ? Math.min(ms, cpuMs(work)) : ms
}

/** The worst that this pattern does to a text, in ms of CPU; ever longer ones, as some would never come to an end. */
function worst(pattern: RegExp, longest: number): number {
  let most = 0
  for (const length of [23, 26, 29, 600, LENGTH].map(length => Math.min(length, longest)))
    for (const unit of unitsFor(pattern)) {
      const pumped = unit.repeat(Math.ceil(length / unit.length))
      for (const text of [`${pumped}\0`, `x${pumped}\0x`])
        most = Math.max(
          most,
          cost(() => text.replace(pattern, '')),
        )
      if (most > LIMIT) return most
    }
  return most
}

t.test('no pattern of the source takes long over any text', async t => {
  for (const known of [/^(a+)+$/, /^[. ]+|[. ]+$/g, /\s*[(（]([^()（）]*)[)）]/g, /(x+x+)+y/])
    t.ok(worst(known, LENGTH) > LIMIT, `${known} would be noticed`)
  const all = await patterns()
  t.ok(all.length > 200, `${all.length} patterns`)
  for (const { path, pattern } of all) {
    if (HARMLESS.has(pattern.source)) continue
    const ms = worst(pattern, LONGEST[path] ?? LENGTH)
    if (ms > LIMIT) t.fail(`${path}: ${pattern} took ${ms} ms`)
  }
})

/** What reads texts of others, and how long such a text can be. */
const PARSERS: Record<string, [longest: number, read: (text: string) => unknown]> = {
  labelOf: [80_000, text => labelOf(text)],
  'labelOf, then upstreamName': [80_000, text => upstreamName(labelOf(text), 'mp4')],
  nameInUrl: [16_000, text => nameInUrl(`https://a.example/${text}`)],
  allowedUrl: [100_000, text => void allowedUrl(text, async () => [])],
  networkOf: [16_000, networkOf],
  decodeCursor: [16_000, text => decodeCursor(text, 'p')],
  'a body': [300_000, text => refusalOf(JSON.stringify({ text }), { text })],
  judgeMessage: [100_000, judgeMessage],
  withoutScreenWords: [20_000, text => withoutScreenWords(sentencesOf(text, 'en'))],
  'sentences of a stream': [
    100_000,
    text => {
      const holder = createSentenceHolder('en')
      for (let i = 0; i < text.length; i += 1_000) holder.push(text.slice(i, i + 1_000))
      holder.flush()
    },
  ],
  scrub: [300_000, scrub],
  scrubText: [300_000, scrubText],
  storable: [300_000, text => storable(JSON.stringify(text))],
  cleanText: [300_000, cleanText],
  shorten: [100_000, shorten],
  failureOfText: [100_000, failureOfText],
  readFrame: [300_000, text => readFrame(JSON.stringify({ content: { parts: [{ text }] } }))],
}
const UNITS = [
  'a',
  ' ',
  '.',
  '"',
  '\\',
  '\n',
  '=',
  '/',
  '“',
  ':',
  'rg_',
  'Bearer ',
  'nmv_usr_',
  'postgres://',
  '[',
  '0',
]

t.test('no parser takes long over any text', async t => {
  for (const [name, [longest, read]] of Object.entries(PARSERS))
    for (const unit of UNITS) {
      const text = (length: number) => `x${unit.repeat(length / unit.length)}\u0001`
      const costOf = (length: number) => cost(() => read(text(length)))
      const [half, whole] = [costOf(longest / 2), costOf(longest)]
      // Twice the text may cost twice as much, with some room, or nothing worth speaking of.
      t.ok(whole < 100 || whole < half * 3, `${name}, ${JSON.stringify(unit)}: ${half} ms, then ${whole} ms`)
    }
})
