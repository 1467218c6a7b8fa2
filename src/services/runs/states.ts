/**
 *   queued ──▶ running ──▶ completed
 *     │ │       │ │ │ └──▶ failed
 *     │ │       │ │ └────▶ stopped
 *     │ │       │ └─ cut ▶ reconciling ──▶ completed | failed | stopped
 *     │ └───────┼────────▶ failed    (could not be sent)
 *     └─────────┴────────▶ stopped
 *
 * A run never goes back to queued: its message may have been delivered (upstream-contract §0).
 */
export type RunState = 'queued' | 'running' | 'reconciling' | 'completed' | 'failed' | 'stopped'

const NEXT: Record<RunState, readonly RunState[]> = {
  queued: ['running', 'failed', 'stopped'],
  running: ['reconciling', 'completed', 'failed', 'stopped'],
  reconciling: ['completed', 'failed', 'stopped'],
  completed: [],
  failed: [],
  stopped: [],
}

export function canTransition(from: RunState, to: RunState): boolean {
  return NEXT[from].includes(to)
}

/** Nothing will change any more. */
export function isTerminal(state: RunState): boolean {
  return NEXT[state].length === 0
}

/** The run holds its project: the upstream may be working on its message. */
export function isActive(state: RunState): boolean {
  return state === 'running' || state === 'reconciling'
}
