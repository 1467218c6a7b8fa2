import type { Db } from '../../db/client.ts'
import { loadProject } from '../../db/projects.ts'
import { latestAttempts, updateAttempt } from '../../db/render-claims.ts'
import { completeLost, findWanted, lockProjectOf, type RenderRow } from '../../db/renders.ts'
import type { Accounts } from '../accounts/accounts.ts'
import type { EventLog } from '../events/log.ts'
import { holderOf } from '../projects.ts'
import type { UpstreamClient } from '../upstream/client.ts'
import { filmOf } from './film.ts'
import { renderUpdated } from './render.ts'

/**
 * Asks once more for a render that was given up after a day, because somebody wants it now. Returns its row,
 * completed, when the upstream has finished it after all; null when it has not, or does not say.
 */
export function createRecover(options: {
  db: Db
  log: EventLog
  accounts: Accounts
  upstream: UpstreamClient
  onCompleted?(tx: Db, renderId: string): Promise<void>
}) {
  const { db, log, accounts, upstream, onCompleted } = options

  return async function recover(lost: RenderRow): Promise<RenderRow | null> {
    if (lost.state !== 'failed' || lost.problem?.code !== 'render_lost') return null
    const [attempt] = await latestAttempts(db, [lost.id])
    if (!attempt) return null
    const project = await loadProject(db, lost.projectId)
    const found = await accounts.call(holderOf(project!, lost), credential =>
      upstream.render(credential, { id: attempt.upstreamId }),
    )
    if (found.kind !== 'ok' || found.value.status !== 'completed') return null
    const film = filmOf(found.value)
    return log.transaction(async (tx, append) => {
      const locked = await lockProjectOf(tx, lost.projectId)
      const row = await completeLost(tx, lost.id, film)
      // Another request for it has found it first.
      if (!row) return (await findWanted(tx, [lost.id]))[0] ?? null
      if (!locked) return null
      await updateAttempt(tx, attempt, { outcome: 'completed' })
      await onCompleted?.(tx, row.id)
      await append(lost.projectId, [renderUpdated(row, locked.revision)])
      return row
    })
  }
}
