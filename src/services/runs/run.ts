import type { RunRow } from '../../db/runs.ts'
import type { Problem, UserState } from '../../problems.ts'
import { type Chunk, custom } from '../events/event.ts'
import type { RunState } from './states.ts'

/** A run as clients see it. */
export interface Run {
  id: string
  projectId: string
  state: RunState
  text: string
  reply?: string
  summary?: string
  outcome?: 'answered' | 'edited' | 'unchanged' | 'unknown'
  userState?: UserState
  createdAt: string
  startedAt?: string
  finishedAt?: string
  credits?: { before: number; after: number; spent: number }
}

export function toRun(row: RunRow): Run {
  const run: Run = {
    id: row.id,
    projectId: row.projectId,
    state: row.state,
    text: row.text,
    createdAt: row.createdAt.toISOString(),
  }
  if (row.reply) run.reply = row.reply
  if (row.summary) run.summary = row.summary
  if (row.outcome) run.outcome = row.outcome
  if (row.problem?.userState) run.userState = row.problem.userState
  if (row.startedAt) run.startedAt = row.startedAt.toISOString()
  if (row.finishedAt) run.finishedAt = row.finishedAt.toISOString()
  if (row.creditsBefore !== null && row.creditsAfter !== null)
    run.credits = {
      before: row.creditsBefore,
      after: row.creditsAfter,
      spent: Math.max(0, row.creditsBefore - row.creditsAfter),
    }
  return run
}

export const runStateEntry = (row: RunRow): Chunk => custom('run.state', toRun(row))

type Ids = Pick<RunRow, 'id' | 'projectId'>

export const runStarted = (run: Ids): Chunk => ({
  type: 'RUN_STARTED',
  threadId: run.projectId,
  runId: run.id,
  timestamp: Date.now(),
})

export const runFinished = (
  run: Ids,
  outcome: 'success' | 'cancelled',
  metadata: Record<string, unknown> = {},
): Chunk => ({
  type: 'RUN_FINISHED',
  threadId: run.projectId,
  runId: run.id,
  timestamp: Date.now(),
  outcome: { type: outcome },
  ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
})

export const runError = (problem: Problem): Chunk => ({
  type: 'RUN_ERROR',
  message: problem.userState?.message ?? problem.detail,
  code: problem.code,
  timestamp: Date.now(),
  metadata: { problem },
})

/** Ends a message that a worker which is gone has left open. */
export const closeMessage = (messageId: string | null): Chunk[] =>
  messageId ? [{ type: 'TEXT_MESSAGE_END', messageId }] : []
