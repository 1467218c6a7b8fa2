/** What the demo needs to know of the API's shapes; the reference is the gateway's /openapi.json. */
import type { Operation } from './patch.ts'

export interface Problem {
  title: string
  status: number
  code: string
  detail?: string
  requestId?: string
  retryAfterMs?: number
  userState?: { message: string }
}

export interface Project {
  id: string
  cursor: string
}

export interface Run {
  id: string
  state: string
  outcome?: string
}

export interface Render {
  id: string
  state: string
  progress: number
  problem?: Problem
  file?: { href: string; bytes?: number }
}

export interface Upload {
  id: string
  state: string
  filename: string
  bytesForwarded: number
  media?: { kind: string; durationMs?: number }
  problem?: Problem
}

export interface Track {
  kind: string
  segments: { startMs: number; durationMs: number; title?: string; text?: string }[]
}

/** The shared state of a project, as STATE_SNAPSHOT gives it. */
export interface State {
  revision: number
  timeline: { tracks: Track[] } | null
  media: unknown[]
}

export type Chunk =
  | { type: 'TEXT_MESSAGE_CONTENT'; delta: string }
  | { type: 'STATE_SNAPSHOT'; snapshot: State }
  | { type: 'STATE_DELTA'; delta: Operation[] }
  | { type: 'RUN_FINISHED'; outcome?: { type: string }; metadata?: { silent?: boolean } }
  | { type: 'RUN_ERROR'; message: string; code?: string }
  | { type: 'CUSTOM'; name: 'run.progress'; value: { phase: string; elapsedMs: number; note?: string } }
  | { type: 'CUSTOM'; name: 'actions'; value: { label: string }[] }
  | { type: 'CUSTOM'; name: 'run.state'; value: Run }
  | { type: 'CUSTOM'; name: 'render.updated'; value: Render }
  | { type: 'CUSTOM'; name: 'upload.updated'; value: Upload }

/** One entry of a project's log. `id` is the cursor, `seq` grows by one. */
export interface Entry {
  id: string
  seq: number
  runId?: string
  chunk: Chunk
}
