import type { Readable } from 'node:stream'
import { passed } from '../../memory.ts'
import { ProblemError } from '../../problems.ts'
import { type Pace, watchPace } from './client-pace.ts'

/** One file of a request, as it arrives. */
export interface IncomingFile {
  filename: string
  /** What the client says it is. */
  mediaType: string
  /** Destroyed when the client leaves before its end. */
  body: Readable
}

export interface BodyLimits extends Pace {
  /** How much of a refused file is read away, and for how long, to get to the next one. */
  discardBytes: number
  discardMs: number
}

export const BODY_LIMITS: BodyLimits = {
  minBytes: 600_000,
  windowMs: 60_000,
  discardBytes: 8_000_000,
  discardMs: 1_000,
}

/** Why the file's own end broke off; null while nothing did. */
export type BodyFailure = 'too_large' | 'too_slow' | 'client_left' | null

export interface FileBody {
  /** The first `bytes`, or all of a shorter file. They stay at the beginning of `stream`. Rejects after a failure. */
  peek(bytes: number): Promise<Uint8Array>
  /** The whole file, each byte given once. `onForwarded` is told of each step. Throws after a failure. */
  stream(onForwarded: () => void): AsyncGenerator<Uint8Array>
  /** The first byte was asked for. */
  readonly begun: boolean
  /** The last byte was given. */
  readonly ended: boolean
  /** Bytes that the reader came back from, which is when they were written on. */
  readonly forwarded: number
  readonly failure: BodyFailure
  /** Aborted at a failure, also while nobody reads. */
  readonly signal: AbortSignal
  /** Reads away what is left. False when that was too much: the file is dropped, and what follows it cannot be read. */
  discard(): Promise<boolean>
  /** Leaves the source to somebody else. */
  release(): void
}

/**
 * A file on its way through: nothing is held but what was peeked, and the client is read only as fast as the reader
 * takes it. More than `maxBytes` is a failure.
 */
export function openBody(source: Readable, maxBytes: number, limits = BODY_LIMITS): FileBody {
  const broken = new AbortController()
  const peeked: Uint8Array[] = []
  const state = { begun: false, ended: false, forwarded: 0, received: 0, failure: null as BodyFailure }
  const pace = watchPace(limits, () => fail('too_slow'))
  let wake = () => {}
  const onMove = () => wake()

  source.on('readable', onMove).on('end', onMove)
  // The server's own watch over bodies ends a slow one with a problem.
  source.on('error', error => fail(error instanceof ProblemError ? 'too_slow' : 'client_left'))
  source.once('close', () => {
    pace.stop()
    if (!source.readableEnded) fail('client_left')
    wake()
  })
  if (source.destroyed && !source.readableEnded) fail('client_left')

  function fail(failure: BodyFailure): Error {
    state.failure ??= failure
    broken.abort()
    wake()
    return new Error(`the file broke off: ${state.failure}`)
  }

  /** The next chunk, null at the end. */
  async function next(): Promise<Uint8Array | null> {
    while (!state.failure) {
      const chunk: Uint8Array | null = source.read()
      if (chunk) return received(chunk)
      if (source.readableEnded) return null
      pace.waits()
      await change()
    }
    throw fail(state.failure)
  }

  /** The next thing that happens to the source. */
  function change(): Promise<void> {
    return new Promise(resolve => {
      wake = resolve
    })
  }

  function received(chunk: Uint8Array): Uint8Array {
    passed(chunk.length)
    pace.arrived(chunk.length)
    state.received += chunk.length
    if (state.received > maxBytes) throw fail('too_large')
    return chunk
  }

  async function* stream(onForwarded: () => void) {
    state.begun = true
    for (let chunk = peeked.shift() ?? (await next()); chunk; chunk = peeked.shift() ?? (await next())) {
      yield chunk
      state.forwarded += chunk.length
      onForwarded()
    }
    state.ended = true
  }

  return {
    stream,
    signal: broken.signal,
    get begun() {
      return state.begun
    },
    get ended() {
      return state.ended
    },
    get forwarded() {
      return state.forwarded
    },
    get failure() {
      return state.failure
    },

    async peek(bytes) {
      let held = 0
      while (held < bytes) {
        const chunk = await next()
        if (!chunk) break
        peeked.push(chunk)
        held += chunk.length
      }
      return Buffer.concat(peeked).subarray(0, bytes)
    },

    async discard() {
      const late = setTimeout(() => source.destroy(), limits.discardMs)
      for (let left = limits.discardBytes; left >= 0 && !source.readableEnded && !source.destroyed; ) {
        const chunk: Uint8Array | null = source.read()
        if (chunk) left -= chunk.length
        else await change()
      }
      clearTimeout(late)
      if (!source.readableEnded) source.destroy()
      return source.readableEnded
    },

    release() {
      pace.stop()
      source.off('readable', onMove).off('end', onMove)
    },
  }
}
