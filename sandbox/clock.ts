import type { ServerResponse } from 'node:http'

/** Waits until the wall clock shows `at` (epoch ms), or until `signal` aborts. Never too early. */
export async function until(at: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const left = at - Date.now()
    if (left <= 0) return
    await new Promise<void>(resolve => {
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, Math.min(left, 2 ** 31 - 1))
      signal.addEventListener('abort', done)
    })
  }
}

/** Aborts when the client of a response is gone, or when `closing` does. */
export function endOf(res: ServerResponse, closing: AbortSignal): AbortSignal {
  const gone = new AbortController()
  if (res.closed || res.destroyed) gone.abort()
  else res.once('close', () => gone.abort())
  return AbortSignal.any([gone.signal, closing])
}

/** Waits until `signal` aborts. */
export function forever(signal: AbortSignal): Promise<void> {
  return until(Number.POSITIVE_INFINITY, signal)
}
