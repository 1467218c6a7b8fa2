import type { ServerResponse } from 'node:http'
import { frozenCredits } from './accounts.ts'
import { endOf } from './clock.ts'
import type { Backend, SignedCall } from './context.ts'
import { detail, failure, type Reply } from './http.ts'
import { pour } from './pour.ts'
import { readWish } from './run-body.ts'
import { changeDraft, findSession } from './sessions.ts'
import type { Effect } from './state.ts'
import { type Story, tell } from './story.ts'
import { frames, type Times } from './telling.ts'

const price = { text: 0, edit: 5, generation: 20 }

/**
 * POST /run_sse (§2.4). The work is written down when the message is accepted and takes effect by the
 * clock; the stream only tells of it.
 */
export function run(backend: Backend, call: SignedCall): Reply {
  const { req, body, entry, account, fault } = call
  if (!/\btext\/event-stream\b/i.test(req.headers.accept ?? '')) return detail(406, 'Not Acceptable')
  const wish = readWish(body, backend.settings.bodyCase)
  if ('status' in wish) return wish
  // Those shapes have no partial text.
  if (fault?.answer === 'shape') wish.streaming = false
  const session = findSession(backend, account, wish.sessionId)
  if (!session) return detail(404, 'Session not found')

  const { text } = wish
  const story = tell({ ...session, text })
  const available = account.credits - frozenCredits(backend, account)
  if (available <= 0 || available < price[story.kind]) return failure(2001, 'insufficient credits')

  const now = Date.now()
  entry.accepted = true
  entry.overlap = backend.streaming.includes(session.id) || now < session.busyUntil
  const times = plan(backend, story, session.runs, now)
  if (session.draft === null) changeDraft(session, [])
  session.runs += 1
  const fails = fault?.answer === 'error_frame' && !fault.act
  if (!fails) {
    if (story.kind === 'edit') session.edits += 1
    session.effects.push(...effectsOf(story, times, text))
  }
  session.busyUntil = times.end
  backend.save()
  return {
    status: 200,
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' },
    answer: 'stream',
    pour: async (res: ServerResponse) => {
      backend.streaming.push(session.id)
      const signal = endOf(res, backend.closing)
      const over = once(() => {
        backend.streaming.splice(backend.streaming.indexOf(session.id), 1)
        if (session.effects.length === 0) session.busyUntil = 0
      })
      res.once('close', over)
      await pour(res, frames({ backend, account, session, story, times, wish, signal }), {
        fault,
        signal,
        over,
      })
    },
  }
}

function once(act: () => void) {
  let done = false
  return () => {
    if (!done) act()
    done = true
  }
}

function plan({ settings: { speed } }: Backend, story: Story, runs: number, now: number): Times {
  const vary = (ms: number) => Math.round(ms * (0.86 + ((runs * 7) % 5) * 0.07))
  if (story.kind === 'generation') {
    return { done: now + Math.round(0.6 * vary(speed.generateMs)), end: now + vary(speed.generateMs) }
  }
  const end = now + vary(story.kind === 'edit' ? speed.editMs : speed.textMs)
  return { done: end, end }
}

function effectsOf(story: Story, times: Times, text: string): Effect[] {
  if (story.kind === 'text') return []
  const cost = price[story.kind]
  if (story.kind === 'edit') return [{ at: times.done, changes: story.changes, cost }]
  return [
    { at: times.done, changes: story.changes, cost, generated: text },
    { at: times.end, changes: story.additions, cost: 0 },
  ]
}
