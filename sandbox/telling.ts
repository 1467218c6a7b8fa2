import { randomUUID } from 'node:crypto'
import { until } from './clock.ts'
import type { Backend } from './context.ts'
import type { Wish } from './run-body.ts'
import { settle } from './sessions.ts'
import type { Account, Session } from './state.ts'
import type { Story } from './story.ts'
import { createFrameWriter, heartbeat, words } from './stream.ts'

/** Epoch ms. */
export interface Times {
  /** the first stage's result, or the only one */
  done: number
  end: number
}

interface Telling {
  backend: Backend
  account: Account
  session: Session
  story: Story
  times: Times
  wish: Wish
  signal: AbortSignal
}

/** A run's frames and heartbeats as SSE text, each at its time. */
export async function* frames({ backend, account, session, story, times, wish, signal }: Telling) {
  const { speed } = backend.settings
  const write = createFrameWriter()
  const thought = story.thought === undefined ? {} : { thought: story.thought }

  async function* wait(at: number) {
    for (let beats = 0; !signal.aborted && at - Date.now() > speed.heartbeatMs; beats++) {
      await until(Date.now() + speed.heartbeatMs, signal)
      yield heartbeat(beats)
    }
    await until(at, signal)
  }
  async function* say(text: string, first: { thought?: string } = {}) {
    if (wish.streaming) {
      if (first.thought) yield write.text('', { partial: true, thought: first.thought })
      for (const word of words(text)) {
        yield write.text(word, { partial: true })
        await until(Date.now() + speed.chunkMs, signal)
      }
    }
    yield write.text(text, { partial: false, ...first })
  }

  if (story.kind === 'text') {
    const speaking = wish.streaming ? words(story.says).length * speed.chunkMs : 0
    yield* wait(times.end - speaking)
    yield* say(story.says, thought)
    return
  }
  if (story.thought) yield write.text('', { partial: false, ...thought })
  const id = `adk-${randomUUID()}`
  yield write.toolCall(id, story.tool, { request: wish.text })
  yield* wait(times.done)
  settle(backend, account)
  const wordless = story.silent && session.edits % 10 !== 5
  const delta = story.silent ? '{"last_edit":"silent"}' : `{"draft":${session.draft}}`
  yield write.toolResult(id, story.tool, delta, wordless)
  if (story.silent) return
  if (story.saysFirst) {
    yield* say(story.saysFirst)
    const second = `adk-${randomUUID()}`
    yield write.toolCall(second, 'edit_multitrack', { request: 'title and music' })
    yield* wait(times.end)
    settle(backend, account)
    yield write.toolResult(second, 'edit_multitrack', `{"draft":${session.draft}}`, false)
  }
  yield* say(story.says)
}
