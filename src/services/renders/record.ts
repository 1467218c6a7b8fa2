import { crashPoint } from '../../crash-points.ts'
import type { Db } from '../../db/client.ts'
import {
  type AttemptChange,
  type AttemptRow,
  abandonClaims,
  beginAttempt,
  type ClaimedRow,
  claimDue,
  continueClaim,
  endRender,
  insertAttempt,
  pauseClaim,
  type Release,
  type RenderChange,
  releaseClaim,
  releaseClaims,
  renewClaim,
  updateAttempt,
  waitsFor,
} from '../../db/render-claims.ts'
import { hurryQueued, lockFreeProjects, lockProjectOf, type RenderRow } from '../../db/renders.ts'
import type { Problem } from '../../problems.ts'
import type { Append, EventLog } from '../events/log.ts'
import { gather } from '../gather.ts'
import type { Timelines } from '../timeline/timeline.ts'
import type { ProjectState } from '../upstream/client.ts'
import { renderUpdated } from './render.ts'
import { canTransition, isTerminal } from './states.ts'

/** A render that this worker alone may write, until somebody else has claimed it. */
export interface Claim extends ClaimedRow {
  /** In terms of `performance.now()`: from then on another worker may have it. */
  until: number
}

/** What polls have to write may wait this long for one another. */
const GATHER_MS = 10

export type Submission = Claim & { attempt: AttemptRow }

/** Another worker has claimed the render meanwhile; what was to be written is dropped. */
export class StaleClaimError extends Error {
  override readonly name = 'StaleClaimError'
}

export type RenderRecord = ReturnType<typeof createRecord>

/**
 * What a worker writes of a render it has claimed. What a client can see is told in the same transaction. Throws
 * StaleClaimError, with everything rolled back, when the claim has passed to somebody else.
 */
export function createRecord(options: {
  db: Db
  log: EventLog
  timelines: Timelines
  leaseMs: number
  /** Called in the transaction in which a render is completed. */
  onCompleted?(tx: Db, renderId: string): Promise<void>
}) {
  const { db, log, timelines, leaseMs, onCompleted } = options

  const release = gather(GATHER_MS, async (releases: Release[]) => {
    const held = new Set((await releaseClaims(db, releases)).map(({ id }) => id))
    return releases.map(({ render }) => held.has(render.id))
  })

  /** `busy`: somebody else has the project now, and the others must not wait for them. */
  const tellProgress = gather(GATHER_MS, (all: (Release & { render: RenderRow })[]) =>
    log.transaction(async (tx, append) => {
      const revisions = await lockFreeProjects(
        tx,
        all.map(({ render }) => render.projectId),
      )
      const free = all.filter(({ render }) => revisions.has(render.projectId))
      const rows = free.length > 0 ? await releaseClaims(tx, free) : []
      for (const row of rows) await append(row.projectId, [renderUpdated(row, revisions.get(row.projectId)!)])
      const held = new Set(rows.map(({ id }) => id))
      return all.map(({ render }) =>
        held.has(render.id) ? 'told' : revisions.has(render.projectId) ? 'stale' : 'busy',
      )
    }),
  )

  async function claim(limit: number): Promise<Claim[]> {
    const until = performance.now() + leaseMs
    const rows = await claimDue(db, limit, leaseMs)
    return rows.map(row => ({ ...row, until }))
  }

  /** Locks the project, takes in what was just read of it, writes, and tells. */
  function tell(
    claim: Claim,
    write: (tx: Db) => Promise<RenderRow | undefined>,
    { attempt, fresh }: { attempt?: AttemptChange; fresh?: ProjectState },
  ): Promise<void> {
    const { projectId, state } = claim.render
    return log.transaction(async (tx, append) => {
      const { revision } = await lock(tx, append, projectId, fresh)
      const render = held(await write(tx))
      if (render.state !== state && !canTransition(state, render.state))
        throw new Error(`A render cannot go from ${state} to ${render.state}`)
      if (attempt && claim.attempt) await updateAttempt(tx, claim.attempt, attempt)
      if (isTerminal(render.state)) await hurryQueued(tx, projectId)
      await append(projectId, [renderUpdated(render, revision)])
      if (render.state === 'completed') await onCompleted?.(tx, render.id)
      if (isTerminal(render.state)) crashPoint('render.before_end_commit')
    })
  }

  async function lock(tx: Db, append: Append, projectId: string, fresh: ProjectState | undefined) {
    const project = await lockProjectOf(tx, projectId)
    if (!project) throw new StaleClaimError('The project is gone')
    return fresh ? (await timelines.observe(tx, append, projectId, fresh)).project : project
  }

  return {
    claim,
    abandon: (leases: string[]) => abandonClaims(db, leases),

    /**
     * Writes down that an attempt is about to be sent. Null when the render has to wait after all; it is looked at
     * again in `waitMs`.
     */
    intend(
      claim: Claim,
      upstreamId: string,
      fresh: ProjectState | undefined,
      waitMs: number,
    ): Promise<Submission | null> {
      const until = performance.now() + leaseMs
      const { id, projectId } = claim.render
      return log.transaction(async (tx, append) => {
        const { revision, sessionId, deletedAt } = await lock(tx, append, projectId, fresh)
        if (deletedAt) {
          held(await endRender(tx, claim, { state: 'cancelled' }))
          return null
        }
        if (await waitsFor(tx, claim.render)) {
          held(await releaseClaim(tx, claim, waitMs, {}))
          return null
        }
        const number = claim.render.attempts + 1
        const draft = fresh?.draft ? { draft: fresh.draft, revision } : {}
        const render = held(await beginAttempt(tx, claim, leaseMs, { attempts: number, ...draft }))
        const attempt = await insertAttempt(tx, {
          renderId: id,
          number,
          upstreamId,
          sessionId: sessionId ?? '',
        })
        await append(projectId, [renderUpdated(render, revision)])
        return { render, attempt, overdue: false, until }
      })
    },

    /** Writes down that the same attempt is about to be sent again, under the id it had. */
    intendAgain({ render, attempt, overdue }: Submission): Promise<Submission> {
      const until = performance.now() + leaseMs
      return db.transaction(async tx => {
        const renewed = held(await renewClaim(tx, { render }, leaseMs))
        const sent = await updateAttempt(tx, attempt, { delivery: 'sent', unknownReads: 0 })
        return { render: renewed, attempt: sent, overdue, until }
      })
    },

    /** Nothing that a client can see has changed: looked at again in `ms`. */
    async later(claim: Claim, ms: number, attempt?: AttemptChange): Promise<void> {
      if (!attempt || !claim.attempt) {
        if (await release({ render: claim.render, ms, progress: null })) return
        throw stale()
      }
      const polls = { polls: claim.render.polls + 1 }
      const { attempt: latest } = claim
      await db.transaction(async tx => {
        held(await releaseClaim(tx, claim, ms, polls))
        await updateAttempt(tx, latest, attempt)
      })
    },

    /** Waiting for its turn is no poll. */
    async wait(claim: Claim, ms: number): Promise<void> {
      held(await releaseClaim(db, claim, ms, {}))
    },

    goesOn: (claim: Claim, ms: number, change: RenderChange, attempt?: AttemptChange) =>
      tell(claim, tx => continueClaim(tx, claim, ms, change), attempt ? { attempt } : {}),

    /** A render at work has come further, and nothing else is new: looked at again in `ms`. */
    async progressed(claim: Claim, ms: number, progress: number): Promise<void> {
      const result = await tellProgress({ render: claim.render, ms, progress })
      if (result === 'stale') throw stale()
      const change = { progress, polls: claim.render.polls + 1 }
      if (result === 'busy') await tell(claim, tx => releaseClaim(tx, claim, ms, change), {})
    },

    /** Nothing goes on without the user, who is told why; looked at again in `ms`. */
    waitsForUser: (claim: Claim, ms: number, problem: Problem, attempt?: AttemptChange) =>
      tell(claim, tx => pauseClaim(tx, claim, ms, problem), attempt ? { attempt } : {}),

    async ends(
      claim: Claim,
      change: RenderChange & { state: 'completed' | 'failed' | 'cancelled' },
      also: { attempt?: AttemptChange; fresh?: ProjectState } = {},
    ): Promise<void> {
      await tell(claim, tx => endRender(tx, claim, change), also)
      crashPoint('render.after_end')
    },
  }
}

function held(row: RenderRow | undefined): RenderRow {
  if (!row) throw stale()
  return row
}

const stale = () => new StaleClaimError('Another worker has claimed this render')
