import { scrubText } from '../../scrub.ts'
import { pathId } from './checks.ts'
import { type Credential, type Endpoint, JSON_TYPE } from './endpoint.ts'
import { classify, type Outcome, PROTOCOL } from './failures.ts'
import { type Meaning, readFrame } from './frames.ts'
import { createSseParser, type SseItem } from './sse.ts'
import { deadline, discard, headerOf, type Reply, readAnswer, timedOut } from './transport.ts'

export interface RunOptions {
  bodyCase: 'snake' | 'camel'
  streaming: boolean
  /** `runMs`: the whole run. `silenceMs`: no byte at all, or heartbeats only (§2.4). */
  limits: { runMs: number; silenceMs: number }
}

const MAX_FRAME_BYTES = 16 * 1024 * 1024
const MAX_ERROR_BYTES = 1024 * 1024

/** §2.4: sends one message, once, over a connection of its own, and reads the answer as it comes. */
export async function run(
  endpoint: Endpoint,
  options: RunOptions,
  credential: Credential,
  message: { sessionId: string; text: string; signal: AbortSignal },
): Promise<Outcome<{ meanings: AsyncIterable<Meaning> }>> {
  const headers = endpoint.headers(credential)
  if (headers === null) return { kind: 'auth' }
  const body = messageBody(options, message)
  const { signal, stop } = deadline(options.limits.runMs, message.signal)
  const sent = await endpoint.send('stream', {
    path: '/run_sse',
    method: 'POST',
    headers: { accept: 'text/event-stream', ...JSON_TYPE, ...headers },
    body,
    signal,
  })
  if (sent.kind !== 'reply') {
    stop()
    return sent
  }
  const { reply } = sent
  if (
    reply.statusCode === 200 &&
    /^\s*text\/event-stream\s*(;|$)/i.test(headerOf(reply, 'content-type') ?? '')
  ) {
    const meanings = readRun(reply, options.limits.silenceMs, signal, stop)
    return { kind: 'ok', value: { meanings } }
  }
  const read = await readAnswer(reply, MAX_ERROR_BYTES, signal).finally(stop)
  if (read.kind !== 'answer') return read
  const outcome = classify(read.answer)
  // Sound JSON where a stream should be: the message may have been taken.
  return outcome.kind === 'ok' ? PROTOCOL : outcome
}

function messageBody(options: RunOptions, message: { sessionId: string; text: string }): string {
  const parts = [{ text: message.text }]
  const sessionId = pathId(message.sessionId)
  const streaming = options.streaming ? { streaming: true } : {}
  return JSON.stringify(
    options.bodyCase === 'camel'
      ? { appName: 'nemo_agent', userId: 'me', sessionId, newMessage: { parts }, ...streaming }
      : {
          app_name: 'nemo_agent',
          user_id: 'me',
          session_id: sessionId,
          new_message: { parts },
          ...streaming,
        },
  )
}

/** Yields what the frames mean and one last `end` or `cut`. Leaving the loop early closes the connection. */
async function* readRun(
  reply: Reply,
  silenceMs: number,
  signal: AbortSignal,
  stop: () => void,
): AsyncGenerator<Meaning> {
  const parser = createSseParser({ maxFrameBytes: MAX_FRAME_BYTES })
  const silence = createSilence(silenceMs, () => discard(reply.body))
  const chunks = (reply.body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]()
  try {
    while (true) {
      silence.listen()
      const next = await chunks.next()
      silence.pause()
      if (next.done) break
      const meanings: Meaning[] = []
      for (const item of parser.push(next.value)) {
        const said = meaningsOf(item)
        if (said.every(meaning => meaning.kind !== 'heartbeat')) silence.broken()
        meanings.push(...said)
      }
      for (const meaning of joinPartials(meanings)) {
        yield meaning
        if (meaning.kind === 'cut') return
      }
      if (silence.over()) break
    }
    if (silence.over()) yield { kind: 'cut', cause: 'silence' }
    else yield parser.complete() ? { kind: 'end' } : { kind: 'cut', cause: 'socket' }
  } catch {
    const cause = silence.over() ? 'silence' : timedOut(signal) ? 'limit' : 'socket'
    yield { kind: 'cut', cause }
  } finally {
    stop()
    silence.stop()
    discard(reply.body)
  }
}

function meaningsOf(item: SseItem): Meaning[] {
  if (item.kind === 'oversized') return [{ kind: 'cut', cause: 'protocol' }]
  return item.kind === 'message' ? readFrame(scrubText(item.data)) : [{ kind: 'heartbeat' }]
}

/** Text that arrives together is told together: a backlog takes one step, not one for each of its frames. */
function joinPartials(meanings: Meaning[]): Meaning[] {
  const joined: Meaning[] = []
  for (const meaning of meanings) {
    const last = joined.at(-1)
    if (isPartial(meaning) && last && isPartial(last)) last.text += meaning.text
    else joined.push(meaning)
  }
  return joined
}

const isPartial = (meaning: Meaning): meaning is Meaning & { kind: 'text' } =>
  meaning.kind === 'text' && meaning.partial

/**
 * Counts the time spent waiting for the upstream, and only that: a slow reader of ours is not its silence.
 * Heartbeats do not reset it.
 */
function createSilence(limitMs: number, onOver: () => void) {
  let waitedMs = 0
  let since: number | null = null
  let fired = false
  let timer = setTimeout(look, limitMs)

  /** Armed once: to arm it anew for each chunk would cost more than to look again. */
  function look() {
    const leftMs = limitMs - waitedMs - (since === null ? 0 : performance.now() - since)
    if (leftMs >= 1) timer = setTimeout(look, leftMs)
    else {
      fired = true
      onOver()
    }
  }

  return {
    listen() {
      since = performance.now()
    },
    pause() {
      if (since !== null) waitedMs += performance.now() - since
      since = null
    },
    broken() {
      waitedMs = 0
    },
    stop() {
      clearTimeout(timer)
    },
    over: () => fired,
  }
}
