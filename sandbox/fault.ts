export type Endpoint =
  | 'mint'
  | 'claim'
  | 'session'
  | 'run'
  | 'upload'
  | 'credits'
  | 'state'
  | 'render'
  | 'render_poll'
  | 'cancel'
  | 'download'
  | 'file'

export const endpoints: Endpoint[] = [
  'mint',
  'claim',
  'session',
  'run',
  'upload',
  'credits',
  'state',
  'render',
  'render_poll',
  'cancel',
  'download',
  'file',
]

/** Where an answer makes sense; on other endpoints it would silently do nothing. */
export const places: Record<Fault['answer'], Endpoint[]> = {
  code: endpoints,
  status: endpoints,
  detail: endpoints,
  html: endpoints,
  empty: endpoints,
  garbage: endpoints,
  body: endpoints,
  hang: endpoints,
  reset: endpoints,
  slow: endpoints,
  content_type: endpoints,
  cut: ['run'],
  silence: ['run'],
  heartbeats: ['run'],
  error_frame: ['run'],
  bad_frame: ['run'],
  huge_frame: ['run'],
  repeat_ids: ['run'],
  trailing_issue: ['run'],
  no_frames: ['run'],
  framing: ['run'],
  shape: ['run'],
  fail: ['render'],
  dead_url: ['render'],
  bytes: ['download'],
  json: ['download'],
}

/** Answers in place of the real one. With `act` the request is carried out all the same, and only the answer is this. */
type Replacement = { act?: boolean } & (
  | { answer: 'code'; code: number; status?: number; message?: string }
  | { answer: 'status'; status: number; retryAfter?: number | string }
  | { answer: 'detail'; detail: unknown; status?: number }
  | { answer: 'html'; status?: number }
  | { answer: 'empty'; status?: number }
  | { answer: 'garbage'; status?: number }
  | { answer: 'body'; body: string; status?: number; contentType?: string; headers?: Record<string, string> }
  /** never answers; `act` defaults to true */
  | { answer: 'hang' }
  /** no answer; the socket dies after acting (`act` defaults to true), or, of an upload, after so many bytes */
  | { answer: 'reset'; how?: 'rst' | 'fin'; afterBytes?: number }
)

/** The real answer, later or under a wrong name. */
type Bent = { answer: 'slow'; ms: number } | { answer: 'content_type'; contentType: string }

/** Only on 'run'. `frames`: how many frames go well before it happens, default 0; comments do not count. */
export type StreamFault =
  /** 'fin' and 'rst' inside the next frame, 'end': the body ends properly, but inside a frame */
  | { answer: 'cut'; frames?: number; how?: 'fin' | 'rst' | 'end' }
  /** not a byte for `ms`, or for ever */
  | { answer: 'silence'; frames?: number; ms?: number }
  | { answer: 'heartbeats'; frames?: number; everyMs?: number; ms?: number }
  /**
   * ends the run with an error in one of the spellings of ADK: 'code' {errorCode, errorMessage}, 'error',
   * 'details' {error, error_details}, 'raw' (invalid JSON). The edit takes effect only with `act`.
   */
  | {
      answer: 'error_frame'
      frames?: number
      spelling?: 'code' | 'error' | 'details' | 'raw'
      code?: string
      message?: string
      act?: boolean
    }
  /** one frame that is no JSON, then on as usual */
  | { answer: 'bad_frame'; frames?: number; data?: string }
  /** one frame of so many bytes, then on as usual */
  | { answer: 'huge_frame'; frames?: number; bytes: number }
  | { answer: 'repeat_ids' }
  | { answer: 'trailing_issue' }
  | { answer: 'no_frames' }
  | { answer: 'framing'; framing: 'crlf' | 'cr' | 'bom' }
  /** the other two shapes of §4: {"type","content"} or {"text"} */
  | { answer: 'shape'; shape: 'typed' | 'bare' }

/** 'fail', 'dead_url' on 'render': accepted, then fails, or its output link answers 410. 'bytes', 'json' on 'download'. */
type Variant = { answer: 'fail' | 'dead_url' | 'bytes' | 'json' }

/**
 * What the next `times` calls of `on` meet (default 1), after `skip` calls that go well. With `sessionId` only
 * calls that name this session in their path or body.
 */
export type Fault = { on: Endpoint; times?: number; skip?: number; sessionId?: string } & (
  | Replacement
  | Bent
  | StreamFault
  | Variant
)
