import { setTimeout as sleep } from 'node:timers/promises'
import { crashPoint } from '../../crash-points.ts'
import { custom } from '../events/event.ts'
import type { Narrator } from '../narration/narrator.ts'
import type { Meaning } from '../upstream/frames.ts'
import type { RunLog } from './run-log.ts'

const BREATH_MS = 700
const LOOK_EVERY_MS = 1_000

export type RelayEnd =
  | { kind: 'end'; truncated: boolean }
  | { kind: 'cut' }
  | { kind: 'error'; code: (Meaning & { kind: 'error' })['code'] }

type Phase = 'thinking' | 'editing' | 'generating' | 'waiting'

/** Reads one answer of the upstream to its end and writes what it means into the log, as it comes. */
export async function relay(options: {
  meanings: AsyncIterable<Meaning>
  narrator: Narrator
  runLog: RunLog
  /** Reads the project's state and tells the log; called when the stream says that it changed. */
  look(): Promise<void>
  noticeMs: number
  note: string
}): Promise<RelayEnd> {
  const { meanings, narrator, runLog, noticeMs, note } = options
  const startedAt = performance.now()
  const looks = createLooks(options.look)
  let phase: Phase = 'thinking'
  let truncated = false
  const breath = createTimer(BREATH_MS, () => runLog.push(narrator.breathe()))
  const notice = createTimer(noticeMs, () => {
    runLog.push([
      custom('run.progress', { phase, elapsedMs: Math.round(performance.now() - startedAt), note }),
    ])
    notice.restart()
  })

  try {
    notice.restart()
    for await (const meaning of meanings) {
      await runLog.ready()
      crashPoint('run.mid_stream')
      if (meaning.kind !== 'heartbeat' && meaning.kind !== 'skipped') notice.restart()
      switch (meaning.kind) {
        case 'text':
          phase = 'thinking'
          runLog.push(narrator.say(meaning.text, meaning.partial))
          breath.restart()
          break
        case 'tool':
          phase = phaseOf(meaning)
          runLog.push(narrator.endTurn())
          if (meaning.phase === 'finished') looks.wanted()
          break
        case 'state':
          looks.wanted()
          break
        case 'truncated':
          truncated = true
          break
        case 'error':
          return { kind: 'error', code: meaning.code }
        case 'end':
          return { kind: 'end', truncated }
        case 'cut':
          return { kind: 'cut' }
      }
    }
    return { kind: 'cut' }
  } finally {
    breath.stop()
    notice.stop()
    await looks.done()
  }
}

function phaseOf(meaning: Meaning & { kind: 'tool' }): Phase {
  if (meaning.phase === 'finished') return 'thinking'
  return /generat|synth|video_gen|image_gen/i.test(meaning.name) ? 'generating' : 'editing'
}

/** At most one look at a time and one a second: a stream may report a hundred changes in a row. */
function createLooks(look: () => Promise<void>) {
  const ended = new AbortController()
  let again = false
  let looking: Promise<void> | null = null

  async function run() {
    while (again && !ended.signal.aborted) {
      again = false
      await look().catch(() => {})
      await sleep(LOOK_EVERY_MS, undefined, { signal: ended.signal }).catch(() => {})
    }
    looking = null
  }

  return {
    wanted() {
      again = true
      looking ??= run()
    },
    async done() {
      ended.abort()
      await looking
    },
  }
}

function createTimer(ms: number, fire: () => void) {
  let timer: NodeJS.Timeout | undefined
  return {
    restart() {
      if (timer) timer.refresh()
      else timer = setTimeout(fire, ms)
    },
    stop() {
      clearTimeout(timer)
    },
  }
}
