import type { Readable } from 'node:stream'
import { Agent, type Dispatcher, Pool } from 'undici'
import { createDialer } from './dial.ts'
import { type Answer, type Failure, PROTOCOL } from './failures.ts'

export type Reply = Dispatcher.ResponseData<unknown>

export interface Call {
  origin: string
  path: string
  method: 'GET' | 'POST'
  headers: Record<string, string>
  body?: string | AsyncIterable<Uint8Array>
  /** Ends the call and everything that is read of its body. */
  signal: AbortSignal
}

export type Sent = { kind: 'reply'; reply: Reply } | Failure

const CONNECT_MS = 5_000
const ONE_CALL = { maxRequestsPerClient: 1 }
const BRIEF = { keepAliveTimeout: 1, keepAliveMaxTimeout: 1 }
const SHARED = {
  pipelining: 1,
  // One protocol to reason about: undici never sends an HTTP/1.1 request of ours a second time.
  allowH2: false,
  connect: { timeout: CONNECT_MS },
  keepAliveTimeout: 4_000,
  keepAliveMaxTimeout: 30_000,
}

/**
 * The connections to the upstream, by class of call, so that two hundred runs cannot hold back a poll. Times in ms.
 * `read` keeps connections alive. `once` and `stream` send what must not be sent twice over a connection of its own:
 * on a kept one the server's close and our request can cross, and then nobody knows whether it was heard.
 */
export function createPools(origin: string) {
  const raw = {
    read: new Pool(origin, { ...SHARED, connections: 128, headersTimeout: 10_000, bodyTimeout: 10_000 }),
    once: new Pool(origin, { ...SHARED, ...ONE_CALL, headersTimeout: 10_000, bodyTimeout: 10_000 }),
    // Silence in a stream is judged by what the frames say, so undici's own idle timer is off.
    stream: new Pool(origin, { ...SHARED, ...ONE_CALL, headersTimeout: 60_000, bodyTimeout: 0 }),
    // Kept for a moment only. `connection: close` would let a server reset a half-sent file and lose its refusal.
    upload: new Pool(origin, { ...SHARED, ...BRIEF, headersTimeout: 120_000, bodyTimeout: 60_000 }),
    download: new Agent({
      ...SHARED,
      connect: createDialer({ apiUrl: origin, timeoutMs: CONNECT_MS }),
      headersTimeout: 60_000,
      bodyTimeout: 60_000,
    }),
  }
  const noting = (pool: Dispatcher) => pool.compose(noteStart)
  return {
    read: noting(raw.read),
    once: noting(raw.once),
    stream: noting(raw.stream),
    upload: noting(raw.upload),
    download: noting(raw.download),
    close: async () => {
      await Promise.all(Object.values(raw).map(pool => pool.destroy()))
    },
  }
}

export type Pools = ReturnType<typeof createPools>

/**
 * Sends one request, once. A failure says `delivered: 'no'` only when undici never began to write it: refused,
 * unresolved, no connection in time. Never rejects; no error of undici leaves, for some quote the request.
 */
export async function send(pool: Dispatcher, call: Call): Promise<Sent> {
  const { signal, body } = call
  if (signal.aborted) return { kind: 'aborted' }
  const progress = { started: false }
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(new Error('aborted'))
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    const pending = pool.request({
      origin: call.origin,
      path: call.path,
      method: call.method,
      headers: { ...call.headers, 'accept-encoding': 'identity' },
      // undici takes any async iterable; its types know only Readable.
      body: (body ?? null) as string | Readable | null,
      idempotent: call.method === 'GET',
      signal,
      opaque: progress,
    })
    pending.catch(() => {})
    // undici settles an aborted call only once it has a connection; the caller's limit is shorter than that.
    const reply = await Promise.race([pending, aborted])
    const encoding = String(reply.headers['content-encoding'] ?? 'identity')
    if (/^\s*identity\s*$/i.test(encoding)) return { kind: 'reply', reply }
    // We asked for none: what comes compressed anyway may unfold a thousandfold.
    discard(reply.body)
    return PROTOCOL
  } catch (error) {
    if (signal.aborted && signal.reason !== TIMED_OUT) return { kind: 'aborted' }
    const cause = signal.aborted || isTimeout(error) ? 'timeout' : 'unavailable'
    return { kind: 'transient', delivered: progress.started ? 'unknown' : 'no', cause }
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

const TIMED_OUT = new Error('the call took longer than its limit')

/** A signal that ends with the caller's or after `ms`. `stop` lets go of the caller's signal. */
export function deadline(ms: number, signal?: AbortSignal): { signal: AbortSignal; stop: () => void } {
  const controller = new AbortController()
  const abort = () => controller.abort(signal?.reason)
  if (signal?.aborted) abort()
  signal?.addEventListener('abort', abort, { once: true })
  const timer = setTimeout(() => controller.abort(TIMED_OUT), ms).unref()
  const stop = () => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
  return { signal: controller.signal, stop }
}

/** Whether a `deadline` ended by its time and not by the caller. */
export function timedOut(signal: AbortSignal): boolean {
  return signal.reason === TIMED_OUT
}

/** Reads a reply to its end for `classify`; more than `maxBytes` is a protocol failure, read no further. */
export async function readAnswer(
  reply: Reply,
  maxBytes: number,
  signal: AbortSignal,
): Promise<{ kind: 'answer'; answer: Answer } | Failure> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    if (Number(reply.headers['content-length']) > maxBytes) {
      discard(reply.body)
      return PROTOCOL
    }
    for await (const chunk of reply.body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      // Leaving the loop destroys the body, and with it the connection.
      if (bytes > maxBytes) return PROTOCOL
      chunks.push(chunk)
    }
  } catch (error) {
    if (signal.aborted && !timedOut(signal)) return { kind: 'aborted' }
    const cause = signal.aborted || isTimeout(error) ? 'timeout' : 'unavailable'
    return { kind: 'transient', delivered: 'unknown', cause }
  }
  const answer = {
    status: reply.statusCode,
    contentType: headerOf(reply, 'content-type') ?? '',
    retryAfter: headerOf(reply, 'retry-after'),
    body: decode(Buffer.concat(chunks)),
  }
  return { kind: 'answer', answer }
}

export function headerOf(reply: Reply, name: string): string | null {
  const value = reply.headers[name]
  return (Array.isArray(value) ? value[0] : value) ?? null
}

/** Drops a body unread, and the connection with it. */
export function discard(body: Readable): void {
  body.on('error', () => {}).destroy()
}

function decode(bytes: Buffer): string | null {
  if (bytes.length === 0) return null
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return null
  }
}

function isTimeout(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return /TIMEOUT|TIMEDOUT/.test(code)
}

/** undici calls `onRequestStart` on a connected socket, right before it writes the first byte. */
const noteStart: Dispatcher.DispatcherComposeInterceptor = dispatch => (options, handler) => {
  const progress = (options as { opaque?: { started: boolean } }).opaque
  return dispatch(options, {
    onRequestStart(controller, context) {
      if (progress !== undefined) progress.started = true
      handler.onRequestStart?.(controller, context)
    },
    onResponseStart: (...args) => handler.onResponseStart?.(...args),
    onResponseData: (...args) => handler.onResponseData?.(...args),
    onResponseEnd: (...args) => handler.onResponseEnd?.(...args),
    onResponseError: (...args) => handler.onResponseError?.(...args),
  })
}
