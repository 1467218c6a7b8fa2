import { randomBytes } from 'node:crypto'
import { crashPoint } from '../../crash-points.ts'
import type { Db } from '../../db/client.ts'
import { loadProject } from '../../db/projects.ts'
import { type AttemptChange, loadDraft, waitsFor } from '../../db/render-claims.ts'
import type { Accounts, Caller } from '../accounts/accounts.ts'
import { holderOf, type Projects } from '../projects.ts'
import { decodeDraft } from '../timeline/draft.ts'
import type { Timelines } from '../timeline/timeline.ts'
import type { ProjectState, RenderState, UpstreamClient } from '../upstream/client.ts'
import type { Failure, Outcome } from '../upstream/failures.ts'
import { filmOf } from './film.ts'
import { nothingToExport, unfinished } from './problems.ts'
import type { Claim, RenderRecord, Submission } from './record.ts'
import { nextPollMs, progressOf } from './states.ts'

const SLOWEST_MS = 300_000
const LONGEST_WAIT_MS = 3_600_000
// One answer "not found" may be a replica that lags behind the submission.
const UNKNOWN_BEFORE_SENT_AGAIN = { submitting: 2, rendering: 5 }
/** How many looks for a user who is away pass between two that trouble the upstream with the token it refused. */
const LOOKS_FOR_USER = 10

export interface AdvanceOptions {
  db: Db
  record: RenderRecord
  accounts: Accounts
  projects: Projects
  timelines: Timelines
  upstream: UpstreamClient
  pollMs: number
}

/**
 * Takes a claimed render one step on, from wherever its row says it is (upstream-contract §2.8). Intent is written
 * before effect: the attempt's row, with the id that we chose, is committed before the submission's first byte leaves.
 * What became of a submission without an answer is found out by asking for that id; it is sent again under the same
 * id only, and only when the upstream does not know it.
 */
export function createAdvance(options: AdvanceOptions) {
  const { db, record, accounts, projects, timelines, upstream, pollMs } = options
  const soonMs = nextPollMs(0, pollMs)
  const slowMs = Math.max(pollMs, Math.min(10 * pollMs, SLOWEST_MS))
  const pollAfter = ({ render }: Claim) => nextPollMs(render.polls + 1, pollMs)
  const callerOf = ({ render }: Claim) => ({ userId: render.userId, platform: render.platform })
  const languageOf = async ({ render }: Claim) => (await loadProject(db, render.projectId))?.language ?? 'en'

  async function holder(claim: Claim): Promise<Caller> {
    const project = await loadProject(db, claim.render.projectId)
    return project ? holderOf(project, callerOf(claim)) : callerOf(claim)
  }

  async function problemOf(claim: Claim, failure: Failure) {
    return accounts.problem(failure, await holder(claim), await languageOf(claim))
  }

  return async function advance(claim: Claim): Promise<void> {
    const { render, attempt } = claim
    if (await isUserAway(claim)) return record.later(claim, pollMs)
    if (render.state === 'queued' || attempt === null) return begin(claim)
    const submission = { ...claim, attempt }
    if (render.state === 'submitting' && attempt.delivery === 'not_sent') return sendAgain(submission)
    return look(submission)
  }

  async function isUserAway(claim: Claim): Promise<boolean> {
    const { needsUserSince, polls, cancelRequestedAt } = claim.render
    if (needsUserSince === null || cancelRequestedAt !== null) return false
    if (polls % LOOKS_FOR_USER === LOOKS_FOR_USER - 1) return false
    return (await accounts.status(await holder(claim))).state === 'reauth_required'
  }

  async function begin(claim: Claim): Promise<void> {
    const { render } = claim
    if (render.cancelRequestedAt) return record.ends(claim, { state: 'cancelled' })
    const ahead = await waitsFor(db, render)
    if (ahead) return record.wait(claim, ahead === 'run' ? Math.min(1_000, pollMs) : soonMs)
    if (render.hasDraft) return submitNew(claim)

    const read = await timelines.read({ id: render.projectId }, callerOf(claim))
    // An attempt of before has nothing to do with this.
    if (read.kind !== 'ok') return notAccepted({ ...claim, attempt: null }, read)
    const fresh = read.value
    if (decodeDraft(fresh.draft).exportable) return submitNew(claim, fresh)
    const problem = nothingToExport(await languageOf(claim))
    return record.ends(claim, { state: 'failed', problem }, { fresh })
  }

  async function submitNew(claim: Claim, fresh?: ProjectState): Promise<void> {
    crashPoint('render.before_intent')
    const submission = await record.intend(claim, newUpstreamId(), fresh, soonMs)
    if (submission) await submit(submission)
  }

  async function sendAgain(claim: Submission): Promise<void> {
    if (claim.render.cancelRequestedAt) return cancelled(claim)
    if (claim.overdue) return lost(claim)
    return submit(await record.intendAgain(claim))
  }

  async function submit(claim: Submission): Promise<void> {
    const { render, attempt } = claim
    crashPoint('render.after_intent')
    const draft = await loadDraft(db, render.id)
    let sessionId = attempt.sessionId
    let sent = false
    const outcome = await projects.call(
      { id: render.projectId },
      callerOf(claim),
      async (credential, session) => {
        // Whoever was stopped here for so long that another has claimed the render must not send any more.
        if (performance.now() > claim.until) return { kind: 'aborted' }
        sessionId = session
        sent = true
        const { format, quality } = render
        return upstream.submitRender(credential, {
          id: attempt.upstreamId,
          sessionId,
          draft: draft ?? 'null',
          format,
          quality,
        })
      },
    )
    crashPoint('render.after_post')
    switch (outcome.kind) {
      case 'ok':
        await found(claim, outcome.value, { sessionId })
        return crashPoint('render.after_accept')
      case 'duplicate':
        // Nobody else makes this id: an earlier sending of ours was heard.
        return found(claim, PENDING, { sessionId })
      case 'rejected':
        // The token or the session may be what was rejected.
        if (sent) return attemptFailed(claim)
        break
      case 'protocol':
        return later(claim, soonMs, { delivery: 'unknown', sessionId })
      case 'transient':
        if (outcome.delivered === 'unknown') return later(claim, soonMs, { delivery: 'unknown', sessionId })
    }
    return notAccepted(claim, outcome)
  }

  /** The upstream did not take it, which says nothing of the render unless only the user can help. */
  async function notAccepted(claim: Claim, failure: Failure): Promise<void> {
    if (failure.kind === 'aborted') return
    if (failure.kind === 'auth') return tokenRefused(claim, failure, { delivery: 'not_sent' })
    if (failure.kind === 'refused') {
      const problem = await problemOf(claim, failure)
      return record.ends(claim, { state: 'failed', problem }, { attempt: { outcome: 'failed' } })
    }
    return later(claim, patience(claim, failure), { delivery: 'not_sent' })
  }

  /** Only the user can bring another token, so the render waits for them, however long that takes. */
  async function tokenRefused(claim: Claim, failure: Failure, attempt?: AttemptChange): Promise<void> {
    if (claim.render.needsUserSince !== null) return record.later(claim, pollMs, attempt)
    const problem = await problemOf(claim, failure)
    if (problem.code === 'reauth_required') return record.waitsForUser(claim, pollMs, problem, attempt)
    // The shared account's trouble is the operators' to end, not this user's.
    return later(claim, slowMs, attempt)
  }

  /** Asks for the attempt's id: the one poll of a render, and the way out of an unknown submission. */
  async function look(claim: Submission): Promise<void> {
    const { render, attempt } = claim
    const id = attempt.upstreamId
    const caller = await holder(claim)
    if (render.cancelRequestedAt)
      await accounts.call(caller, credential => upstream.cancelRender(credential, { id }))
    const outcome: Outcome<RenderState> = await accounts.call(caller, credential =>
      upstream.render(credential, { id }),
    )
    crashPoint('render.after_poll')
    if (outcome.kind === 'ok') return found(claim, outcome.value)
    if (outcome.kind === 'not_found') return unknownThere(claim)
    if (outcome.kind === 'auth') return tokenRefused(claim, outcome)
    if (outcome.kind !== 'aborted') return later(claim, patience(claim, outcome))
  }

  async function unknownThere(claim: Submission): Promise<void> {
    const unknownReads = claim.attempt.unknownReads + 1
    const submitting = claim.render.state === 'submitting'
    const enough = UNKNOWN_BEFORE_SENT_AGAIN[submitting ? 'submitting' : 'rendering']
    if (unknownReads >= enough) return sendAgain(claim)
    const ms = submitting ? soonMs : pollAfter(claim)
    if (claim.render.needsUserSince !== null) return record.goesOn(claim, ms, {}, { unknownReads })
    return later(claim, ms, { unknownReads })
  }

  async function found(claim: Submission, state: RenderState, also: AttemptChange = {}): Promise<void> {
    const { render } = claim
    const acknowledged: AttemptChange = { ...also, delivery: 'acknowledged', unknownReads: 0 }
    const news = isNews(claim) ? acknowledged : undefined
    if (state.status === 'completed')
      return record.ends(
        claim,
        { state: 'completed', ...filmOf(state) },
        { attempt: { ...acknowledged, outcome: 'completed' } },
      )
    if (state.status === 'failed') return render.cancelRequestedAt ? cancelled(claim) : attemptFailed(claim)
    if (claim.overdue) return lost(claim)
    const progress = progressOf(render.progress, state.progress)
    if (render.state !== 'rendering' || render.needsUserSince !== null)
      return record.goesOn(claim, soonMs, { state: 'rendering', progress, polls: 0 }, acknowledged)
    if (progress === render.progress) return later(claim, pollAfter(claim), news)
    if (!news) return record.progressed(claim, pollAfter(claim), progress)
    return record.goesOn(claim, pollAfter(claim), { progress, polls: render.polls + 1 }, news)
  }

  /** A failed attempt is made once more, under a new id (upstream-contract §2.8); one that was asked for is not. */
  async function attemptFailed(claim: Submission): Promise<void> {
    const attempt: AttemptChange = { delivery: 'acknowledged', outcome: 'failed' }
    if (claim.render.attempts < 2)
      return record.goesOn(
        claim,
        claim.render.state === 'rendering' ? 0 : soonMs,
        { state: 'queued' },
        attempt,
      )
    const problem = unfinished('upstream_unavailable', await languageOf(claim))
    return record.ends(claim, { state: 'failed', problem }, { attempt })
  }

  function cancelled(claim: Claim): Promise<void> {
    return record.ends(claim, { state: 'cancelled' }, { attempt: { outcome: 'cancelled' } })
  }

  async function lost(claim: Claim): Promise<void> {
    const problem = unfinished('render_lost', await languageOf(claim))
    return record.ends(claim, { state: 'failed', problem }, { attempt: { outcome: 'lost' } })
  }

  async function later(claim: Claim, ms: number, attempt?: AttemptChange): Promise<void> {
    if (claim.overdue) return lost(claim)
    return record.later(claim, ms, attempt)
  }

  function patience(claim: Claim, failure: Failure): number {
    if (failure.kind === 'refused') return slowMs
    const asked = failure.kind === 'rate_limited' ? (failure.retryAfterMs ?? 0) : 0
    return Math.max(pollAfter(claim), Math.min(asked, LONGEST_WAIT_MS))
  }
}

const isNews = ({ attempt }: Submission) => attempt.delivery !== 'acknowledged' || attempt.unknownReads > 0

const PENDING: RenderState = { status: 'pending', progress: null, url: null, bytes: null, durationMs: null }

/** The time keeps ids readable for the backend's operators; the rest makes them unique. */
function newUpstreamId(): string {
  return `render_${Date.now()}${randomBytes(3).toString('hex')}`
}
