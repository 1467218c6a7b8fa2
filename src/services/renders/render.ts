import type { RenderRow } from '../../db/renders.ts'
import type { Problem } from '../../problems.ts'
import { type Chunk, custom } from '../events/event.ts'
import type { RenderStateName } from './states.ts'

/** A render as clients see it. */
export interface Render {
  id: string
  projectId: string
  state: RenderStateName
  progress: number
  attempts: number
  revision: number
  /** The timeline has changed since. */
  stale: boolean
  /** Nothing goes on before the user has done what `problem.userState` says. */
  needsUser: boolean
  problem?: Problem
  file?: { href: string; bytes?: number; durationMs?: number }
  createdAt: string
  submittedAt?: string
  completedAt?: string
}

/** A render that has not taken its draft yet will take the newest, so it cannot be stale. */
export function toRender(row: RenderRow, projectRevision: number): Render {
  const { id, projectId, state, progress, attempts, hasDraft } = row
  const revision = hasDraft ? row.revision : projectRevision
  const render: Render = {
    id,
    projectId,
    state,
    progress,
    attempts,
    revision,
    stale: revision !== projectRevision,
    needsUser: row.needsUserSince !== null,
    createdAt: row.createdAt.toISOString(),
  }
  if (row.problem) render.problem = row.problem
  if (state === 'completed') {
    render.file = { href: `/v1/renders/${id}/file` }
    if (row.fileBytes !== null) render.file.bytes = row.fileBytes
    if (row.durationMs !== null) render.file.durationMs = row.durationMs
  }
  if (row.submittedAt) render.submittedAt = row.submittedAt.toISOString()
  if (row.completedAt) render.completedAt = row.completedAt.toISOString()
  return render
}

export const renderUpdated = (row: RenderRow, projectRevision: number): Chunk =>
  custom('render.updated', toRender(row, projectRevision))
