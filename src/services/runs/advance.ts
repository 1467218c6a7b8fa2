import { loadProject } from '../../db/projects.ts'
import { loadRun, takeRun, updateRun } from '../../db/runs.ts'
import { isDatabaseDown, type ProblemCode } from '../../problems.ts'
import type { RunJob } from '../jobs/jobs.ts'
import { createNarrator } from '../narration/narrator.ts'
import type { ProjectState } from '../upstream/client.ts'
import type { Failure } from '../upstream/failures.ts'
import type { Meaning } from '../upstream/frames.ts'
import { words } from '../words.ts'
import { createEndings, type Endings, NOTHING_SAID } from './endings.ts'
import { reconcile, settle } from './reconcile.ts'
import { relay } from './relay.ts'
import { closeMessage, runStarted, runStateEntry } from './run.ts'
import { createRunLog, LostRunError } from './run-log.ts'
import { isTerminal } from './states.ts'
import {
  type Baseline,
  createWork,
  HandOverError,
  type RunSignals,
  type Work,
  type WorkOptions,
} from './work.ts'

/** An attempt that fails for a reason of ours is made again; after so many, the run fails instead of the project. */
const LAST_ATTEMPT = 5
/** A worker that was held up for longer than this makes sure that the run is still its own before it sends. */
const HELD_UP_MS = 5_000

/**
 * Brings one run to its end, from wherever its row says it is. Intent is written before effect: the row says `sent`
 * before the message's first byte leaves, so a run that is found `sent` by another worker is never sent again; what
 * became of it is read from the project's state.
 */
export function createAdvance(options: WorkOptions) {
  const { db, log, projects, timelines, upstream, limits } = options

  return async function advance(job: RunJob, attempt: number, signals: RunSignals): Promise<void> {
    const run = await takeRun(db, job.runId, attempt)
    if (!run) {
      if (await loadRun(db, job.runId)) throw new LostRunError('A later attempt has this run')
      return
    }
    const project = (await loadProject(db, run.projectId))!
    const work = createWork(options, { run, project, runLog: createRunLog({ db, log, run }), signals })
    const endings = createEndings(options, work)
    try {
      if (run.state === 'queued') await begin(work, endings)
      else if (!isTerminal(run.state))
        await reconcile(
          work,
          endings,
          { last: closeMessage(run.openMessageId), reply: run.reply ?? '' },
          limits,
        )
      await settle(work, timelines, limits)
    } catch (error) {
      if (attempt < LAST_ATTEMPT || isPassing(error) || isTerminal(work.run.state)) throw error
      await endings.failed(work.run.startedAt ? 'outcome_unknown' : 'internal', {
        last: closeMessage(run.openMessageId),
        reply: '',
      })
      throw error
    }
  }

  async function begin(work: Work, endings: Endings): Promise<void> {
    const [state, credits] = await Promise.all([work.readPatiently(), work.readCredits()])
    if (work.signals.stop.aborted) return endings.stopped(NOTHING_SAID, false)
    if (state.kind !== 'ok') return endings.refused(state)
    if (!(await start(work, state.value, credits?.available ?? null))) return

    const startedAt = performance.now()
    const { run, project } = work
    const caller = { userId: run.userId, platform: run.platform }
    const answer = await work.patiently(() =>
      projects.call(project, caller, async (credential, sessionId) => {
        // A process that slept through its claim must not send what another one has already given up on.
        if (performance.now() - startedAt > HELD_UP_MS) await work.runLog.transaction(async () => {})
        return upstream.run(credential, { sessionId, text: run.text, signal: work.interrupted })
      }),
    )
    if (answer.kind === 'ok') return follow(work, endings, answer.value.meanings)
    work.throwIfHandedOver()
    if (answer.kind === 'aborted') return endings.stopped(NOTHING_SAID, true)
    if (mayHaveArrived(answer)) return reconcile(work, endings, NOTHING_SAID, limits)
    await endings.refused(answer)
  }

  /** Tells the log that the run begins and writes down that the message is about to leave. False: it was stopped. */
  function start(work: Work, state: ProjectState, creditsBefore: number | null): Promise<boolean> {
    const { id, projectId } = work.run
    return work.runLog.transaction(async (tx, append) => {
      if ((await loadRun(tx, id))?.state !== 'queued') {
        work.run = (await loadRun(tx, id))!
        return false
      }
      const { project, after } = await timelines.observe(tx, append, projectId, state)
      const baseline: Baseline = { fingerprint: project.fingerprint, state: after }
      work.run = await updateRun(tx, id, {
        state: 'running',
        startedAt: new Date(),
        delivery: 'sent',
        baseline,
        creditsBefore,
      })
      await append(projectId, [runStateEntry(work.run)])
      await append(projectId, [runStarted(work.run), { type: 'STATE_SNAPSHOT', snapshot: after }], id)
      return true
    })
  }

  async function follow(work: Work, endings: Endings, meanings: AsyncIterable<Meaning>): Promise<void> {
    const { runLog, language, project } = work
    const narrator = createNarrator({ projectId: project.id, language })
    work.run = await runLog.transaction(tx => updateRun(tx, work.run.id, { delivery: 'acknowledged' }))
    const end = await relay({
      meanings,
      narrator,
      runLog,
      noticeMs: limits.noticeMs,
      note: words[language].notes.stillWorking,
      look: async () => {
        const state = await work.read()
        if (state.kind === 'ok')
          await runLog.transaction((tx, append) => work.observe(tx, append, state.value))
      },
    })
    work.throwIfHandedOver()
    const last = narrator.finish()
    const said = { last, reply: narrator.text() }
    if (work.signals.stop.aborted && end.kind !== 'end') return endings.stopped(said, true)
    if (end.kind === 'cut') return reconcile(work, endings, said, limits)
    if (end.kind === 'error') return endings.failed(problemCode(end.code), said)
    const state = await work.readPatiently()
    // Nothing was said and nothing can be seen: that is no end but a cut.
    if (state.kind !== 'ok' && said.reply === '') return reconcile(work, endings, said, limits)
    await endings.completed(said, state.kind === 'ok' ? state.value : null, end.truncated)
  }
}

/** What the next attempt will not meet, or should meet again. */
function isPassing(error: unknown): boolean {
  return error instanceof HandOverError || error instanceof LostRunError || isDatabaseDown(error)
}

/** True when the message may have reached the upstream, so that only its state can tell. */
function mayHaveArrived(failure: Failure): boolean {
  return failure.kind === 'protocol' || (failure.kind === 'transient' && failure.delivered === 'unknown')
}

function problemCode(code: (Meaning & { kind: 'error' })['code']): ProblemCode {
  return code === 'session_lost' ? 'upstream_unavailable' : code
}
