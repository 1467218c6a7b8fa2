/**
 *   queued ──▶ submitting ──▶ rendering ──▶ completed ◀── found after all ──┐
 *    ▲ │  ▲        │ │  │        │ │  │                                     │
 *    │ │  └────────┼─┼──┴────────┼─┼──┘      one attempt more               │
 *    │ ├───────────┴─┼───────────┘ │                                        │
 *    │ │             └──────┬──────┘                                        │
 *    │ ├──▶ cancelled       ▼                                               │
 *    │ └─────────────────▶ failed ──────────── lost, and asked for again ───┘
 *    └──── retry ────────────┘
 *
 * In each of the first three a render may also wait for its user, whose token the upstream takes no more.
 */
export type RenderStateName = 'queued' | 'submitting' | 'rendering' | 'completed' | 'failed' | 'cancelled'

const NEXT: Record<RenderStateName, readonly RenderStateName[]> = {
  queued: ['submitting', 'failed', 'cancelled'],
  submitting: ['rendering', 'completed', 'queued', 'failed', 'cancelled'],
  rendering: ['completed', 'queued', 'failed', 'cancelled'],
  completed: [],
  failed: ['queued', 'completed'],
  cancelled: [],
}

const STEADY_POLLS = 10
const FIRST_POLL_MS = 5_000
const SLOWEST_POLL_MS = 300_000

export function canTransition(from: RenderStateName, to: RenderStateName): boolean {
  return NEXT[from].includes(to)
}

/** Nothing will change by itself; a failed render may still be retried on request. */
export function isTerminal(state: RenderStateName): boolean {
  return state === 'completed' || state === 'failed' || state === 'cancelled'
}

/** How long to wait, in ms, after `polls` polls were made; half as long again each time after the tenth. */
export function nextPollMs(polls: number, baseMs: number): number {
  if (polls <= 0) return Math.min(FIRST_POLL_MS, baseMs)
  const growth = 1.5 ** Math.max(0, polls - STEADY_POLLS + 1)
  return Math.max(baseMs, Math.min(Math.round(baseMs * growth), SLOWEST_POLL_MS))
}

/** 0–99 until the render is completed; never less than was shown before. `null`: nothing was reported. */
export function progressOf(previous: number, reported: number | null): number {
  const progress = reported === null || !Number.isFinite(reported) ? previous : Math.floor(reported)
  return Math.min(Math.max(progress, previous, 0), 99)
}
