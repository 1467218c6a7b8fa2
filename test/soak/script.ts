import type { Fault } from '../../sandbox/server.ts'
import type { Random } from './random.ts'

/** What users say; `n` makes each message one of a kind, so that the journal can be asked for it. */
const MESSAGES: readonly ((n: string) => string)[] = [
  n => `Add a title that says "Holiday ${n}"`,
  n => `Put the text "Hello ${n}" on the picture`,
  n => `Trim the video to 3 seconds, take ${n}`,
  n => `Add upbeat background music, take ${n}`,
  n => `Add subtitles, version ${n}`,
  n => `Remove the music, please (${n})`,
  n => `Generate a short video about the city, take ${n}`,
  n => `What can you do? ${n}`,
  n => `添加标题“海边${n}”`,
  n => `加一段钢琴音乐，第${n}版`,
  n => `把视频剪到2秒，第${n}版`,
  n => `生成一段关于城市的视频，第${n}版`,
  n => `你能做什么？${n}`,
]

const CODES = [1002, 2001, 402, 403, 408, 429, 500, 503, 9999]
const SPELLINGS = ['code', 'error', 'details', 'raw'] as const
const READS = ['state', 'credits'] as const

const FAULTS: readonly ((random: Random) => Fault)[] = [
  r => ({ on: 'run', answer: 'code', code: r.one(CODES) }),
  r => ({ on: 'run', answer: 'code', code: r.one(CODES), status: 400 }),
  r => ({ on: 'run', answer: 'status', status: r.one([402, 403, 404, 408, 500, 502, 503]) }),
  () => ({ on: 'run', answer: 'status', status: 429, retryAfter: 0 }),
  () => ({ on: 'run', answer: 'detail', detail: 'Session not found', status: 404 }),
  r => ({ on: 'run', answer: 'html', status: r.one([200, 400, 403, 502]), act: r.chance(0.5) }),
  r => ({ on: 'run', answer: 'empty', act: r.chance(0.5) }),
  r => ({ on: 'run', answer: 'garbage', act: r.chance(0.5) }),
  () => ({ on: 'run', answer: 'content_type', contentType: 'text/plain' }),
  () => ({ on: 'run', answer: 'reset' }),
  r => ({ on: 'run', answer: 'cut', frames: r.upTo(12), how: r.one(['fin', 'rst', 'end'] as const) }),
  r => ({ on: 'run', answer: 'silence', frames: r.upTo(6) }),
  r => ({ on: 'run', answer: 'heartbeats', frames: r.upTo(3), everyMs: 40, ms: 200 }),
  r => ({
    on: 'run',
    answer: 'error_frame',
    frames: r.upTo(6),
    spelling: r.one(SPELLINGS),
    act: r.chance(0.3),
  }),
  r => ({
    on: 'run',
    answer: 'error_frame',
    spelling: 'code',
    code: r.one(['SAFETY', 'MAX_TOKENS', '2001']),
  }),
  r => ({ on: 'run', answer: 'bad_frame', frames: r.upTo(4) }),
  () => ({ on: 'run', answer: 'huge_frame', bytes: 200_000 }),
  () => ({ on: 'run', answer: 'repeat_ids' }),
  () => ({ on: 'run', answer: 'trailing_issue' }),
  () => ({ on: 'run', answer: 'no_frames' }),
  r => ({ on: 'run', answer: 'framing', framing: r.one(['crlf', 'cr', 'bom'] as const) }),
  r => ({ on: 'run', answer: 'shape', shape: r.one(['typed', 'bare'] as const) }),
  r => ({ on: r.one(READS), answer: 'status', status: r.one([408, 429, 500, 503]), retryAfter: 0 }),
  r => ({ on: r.one(READS), answer: 'html', status: 502 }),
  r => ({ on: r.one(READS), answer: 'garbage' }),
  r => ({ on: r.one(READS), answer: 'reset' }),
  r => ({ on: r.one(READS), answer: 'slow', ms: 150 }),
]

export interface Turn {
  text: string
  fault: Fault | null
  /** Ms after which the user stops it; null: lets it be. */
  stopAfter: number | null
  /** Does not wait for the end of the turn before it. */
  hurried: boolean
  loss: 'tokens' | 'sessions' | null
}

/** One user's conversation in one project: a few messages, most of which meet a backend in a bad mood. */
export function conversation(random: Random, n: number): Turn[] {
  return Array.from({ length: 1 + random.upTo(3) }, (_, i) => ({
    text: random.one(MESSAGES)(`${n}-${i}`),
    fault: random.chance(0.7) ? random.one(FAULTS)(random) : null,
    stopAfter: random.chance(0.1) ? random.upTo(300) : null,
    hurried: random.chance(0.15),
    loss: random.chance(0.03) ? random.one(['tokens', 'sessions'] as const) : null,
  }))
}
