import { ConfigError } from './config.ts'

/**
 * The steps of a run's and of a render's life, each named for the moment right after (or before) it. A test has the
 * process die or freeze there: whatever was committed by then must be enough for another worker to go on from.
 */
export const CRASH_POINTS = [
  // The request was taken and committed; its answer has not left.
  'run.after_accept',
  // This worker has the run, and nothing of it was sent.
  'run.after_take',
  // The row says `sent`; not a byte has left.
  'run.after_intent',
  // The upstream has begun to answer; the row does not know.
  'run.after_post',
  // In the middle of the answer: once for each thing that the stream says.
  'run.mid_stream',
  // The answer is complete; the end is not written.
  'run.after_stream',
  // A read of the project's state after a cut, before it is written down.
  'run.after_reconcile_read',
  // The end is written in a transaction that is still open.
  'run.before_end_commit',
  // The end is committed; the job still stands.
  'run.after_end',

  'render.after_create',
  'render.after_claim',
  // The draft was read; no id is written down.
  'render.before_intent',
  // The id is written down; not a byte has left.
  'render.after_intent',
  // The upstream has answered the submission; the row does not know.
  'render.after_post',
  'render.after_accept',
  // The upstream has answered a poll; the row does not know.
  'render.after_poll',
  // The end is written in a transaction that is still open.
  'render.before_end_commit',
  'render.after_end',
] as const

export type CrashPoint = (typeof CRASH_POINTS)[number]

let armed: { point: CrashPoint; signal: 'SIGKILL' | 'SIGSTOP'; hitsLeft: number } | null = null

/** Has this process die or freeze at the `hit`-th passing of a point; throws ConfigError when there is no such point. */
export function armCrashPoint(at: { point: string; how: 'kill' | 'stop'; hit: number }): void {
  const point = CRASH_POINTS.find(name => name === at.point)
  if (!point) throw new ConfigError([`CRASH_AT names no point; there are ${CRASH_POINTS.join(', ')}`])
  armed = { point, signal: at.how === 'kill' ? 'SIGKILL' : 'SIGSTOP', hitsLeft: at.hit }
}

/** Does nothing, unless a test armed this very point. */
export function crashPoint(point: CrashPoint): void {
  if (armed === null || armed.point !== point || --armed.hitsLeft > 0) return
  const { signal } = armed
  armed = null
  process.kill(process.pid, signal)
}
