export interface Pace {
  /** A client must send `minBytes` in each `windowMs` that is spent waiting for it. */
  minBytes: number
  windowMs: number
}

const LOOKS_PER_WINDOW = 10

/** Watches how fast a client sends, and calls `tooSlow` when it is not fast enough. Keeps no process alive. */
export function watchPace({ minBytes, windowMs }: Pace, tooSlow: () => void) {
  let bytes = 0
  let waitedMs = 0
  let waitingSince: number | null = null
  const timer = setInterval(look, windowMs / LOOKS_PER_WINDOW).unref()

  function look() {
    noteWait(performance.now())
    if (waitedMs < windowMs) return
    if (bytes < minBytes) tooSlow()
    bytes = 0
    waitedMs = 0
  }

  function noteWait(now: number) {
    if (waitingSince === null) return
    waitedMs += now - waitingSince
    waitingSince = now
  }

  return {
    /** It is the client's turn, until something arrives. */
    waits() {
      waitingSince ??= performance.now()
    },
    arrived(length: number) {
      bytes += length
      if (waitingSince !== null) noteWait(performance.now())
      waitingSince = null
    },
    stop() {
      clearInterval(timer)
    },
  }
}
