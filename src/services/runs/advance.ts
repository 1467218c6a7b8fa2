import { crashPoint } from '../../crash-points.ts'
import { loadProject, type ProjectStateRow } from '../../db/projects.ts'
import { loadRun, takeRun, updateRun } from '../../db/runs.ts'
import type { ProblemCode } from '../../problems.ts'
import type { RunJob } from '../jobs/jobs.ts'
import { createNarrator } from '../narration/narrator.ts'
import type { ClientState } from '../timeline/client-state.ts'
import type { ProjectState } from '../upstream/client.ts'
import { mayHaveArrived, type Outcome } from '../upstream/failures.ts'
import type { Meaning } from '../upstream/frames.ts'
import { words } from '../words.ts'
import { createEndings, type Endings, NOTHING_SAID } from './endings.ts'
import { reconcile } from './reconcile.ts'
import { relay } from './relay.ts'
import { closeMessage, runStarted, runStateEntry } from './run.ts'
import { createRunLog, LostRunError } from './run-log.ts'
import { endStopped, readSilentEnd, settle } from './settle.ts'
import { isTerminal } from './states.ts'
import { type Baseline, createWork, isPassing, type RunSignals, type Work, type WorkOptions } from './work.ts'

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
  const { db, log, accounts, projects, timelines, upstream, limits } = options

  return async function advance(job: RunJob, attempt: number, signals: RunSignals): Promise<void> {
    const run = await takeRun(db, job.runId, attempt)
    if (!run) {
      if (await loadRun(db, job.runId)) throw new LostRunError('A later attempt has this run')
      return
    }
    const project = await loadProject(db, run.projectId)
    if (!project) return
    crashPoint('run.after_take')
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
      await settle(work, limits)
    } catch (error) {
      if (attempt < LAST_ATTEMPT || isPassing(error)) throw error
      await giveUp(work, endings)
      throw error
    }
  }

  /** The run, or what it has left upstream, cannot be dealt with: that must not hold its project for ever. */
  async function giveUp(work: Work, endings: Endings) {
    const { id } = work.run
    work.run = (await loadRun(db, id)) ?? work.run
    if (isTerminal(work.run.state)) await work.runLog.transaction(tx => updateRun(tx, id, { settled: true }))
    else await endings.failed(work.run.startedAt ? 'outcome_unknown' : 'internal', NOTHING_SAID)
  }

  async function begin(work: Work, endings: Endings): Promise<void> {
    const [state, credits] = await Promise.all([work.readPatiently(), work.readCredits()])
    work.throwIfHandedOver()
    if (work.signals.stop.aborted || work.project.deletedAt) return endings.stopped(NOTHING_SAID)
    if (state.kind !== 'ok') return endings.refused(state)
    const sessionId = await start(work, state.value, credits?.available ?? null)
    if (sessionId === null) return
    crashPoint('run.after_intent')

    const { answer, heard } = await send(work, sessionId)
    if (answer.kind === 'ok') return follow(work, endings, answer.value.meanings)
    work.throwIfHandedOver()
    if (answer.kind === 'aborted') return endStopped(work, endings, NOTHING_SAID, limits)
    if (heard && mayHaveArrived(answer)) return reconcile(work, endings, NOTHING_SAID, limits)
    await endings.refused(answer)
  }

  /** Sends the message. `heard`: the answer is one to the message, not to what it takes to send it. */
  async function send(work: Work, sessionId: string) {
    const startedAt = performance.now()
    const { run, project } = work
    const caller = { userId: run.userId, platform: run.platform }
    let session = sessionId
    let heard: Outcome<{ meanings: AsyncIterable<Meaning> }> | null = null

    async function sendOnce() {
      try {
        return await projects.call(project, caller, async (credential, sessionId) => {
          if (sessionId !== session) {
            const state = await upstream.state(credential, { sessionId })
            if (state.kind !== 'ok') return state
            await rebase(work, state.value)
            session = sessionId
          }
          // A process that slept through its claim must not send what another one has already given up on.
          if (performance.now() - startedAt > HELD_UP_MS) await work.runLog.transaction(async () => {})
          heard = await upstream.run(credential, { sessionId, text: run.text, signal: work.interrupted })
          crashPoint('run.after_post')
          return heard
        })
      } catch (error) {
        // What failed may have come after the message was taken, and then it must not be sent again.
        if (heard && (heard.kind === 'ok' || mayHaveArrived(heard))) return heard
        throw error
      }
    }

    const answer = await work.patiently(() => work.withDatabase(sendOnce))
    return { answer, heard: answer === heard }
  }

  /** The message goes to another session than the one that was looked at, so it is judged by what that one has. */
  async function rebase(work: Work, state: ProjectState) {
    work.run = await work.runLog.transaction(async (tx, append) => {
      const { project, after } = await work.observe(tx, append, state)
      return updateRun(tx, work.run.id, { baseline: baselineOf(project, after) })
    })
  }

  /**
   * Tells the log that the run begins and writes down that the message is about to leave.
   * @returns the session it goes to; null when the run was stopped
   */
  function start(work: Work, state: ProjectState, creditsBefore: number | null): Promise<string | null> {
    const { id, projectId } = work.run
    return work.runLog.transaction(async (tx, append) => {
      const run = (await loadRun(tx, id))!
      if (run.state !== 'queued') {
        work.run = run
        return null
      }
      const { project, after } = await timelines.observe(tx, append, projectId, state)
      work.run = await updateRun(tx, id, {
        state: 'running',
        startedAt: new Date(),
        delivery: 'sent',
        baseline: baselineOf(project, after),
        creditsBefore,
      })
      await append(projectId, [runStateEntry(work.run)])
      await append(projectId, [runStarted(work.run), { type: 'STATE_SNAPSHOT', snapshot: after }], id)
      return project.sessionId
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
    crashPoint('run.after_stream')
    const last = narrator.finish()
    const said = { last, reply: narrator.text() }
    if (work.signals.stop.aborted && end.kind !== 'end') return endStopped(work, endings, said, limits)
    if (end.kind === 'cut') return reconcile(work, endings, said, limits)
    if (end.kind === 'error') return endings.failed(await problemCode(work, end.code), said)
    const state = said.reply === '' ? await readSilentEnd(work, limits) : await work.readPatiently()
    // Nothing was said and nothing can be seen: that is no end but a cut.
    if (state.kind !== 'ok' && said.reply === '') return reconcile(work, endings, said, limits)
    const unchanged =
      state.kind !== 'ok' || state.value.fingerprint === (work.run.baseline as Baseline).fingerprint
    if (narrator.troubled() && unchanged) return endings.failed('upstream_unavailable', said)
    await endings.completed(said, state.kind === 'ok' ? state.value : null, end.truncated)
  }

  async function problemCode(work: Work, code: (Meaning & { kind: 'error' })['code']): Promise<ProblemCode> {
    if (code === 'session_lost') return 'upstream_unavailable'
    // Only a linked token is the user's to renew; another one is replaced before the next message.
    if (
      code === 'reauth_required' &&
      (await work.withDatabase(async () => accounts.status(await work.holder()))).kind !== 'linked'
    )
      return 'upstream_unavailable'
    return code
  }
}

const baselineOf = (project: ProjectStateRow, state: ClientState): Baseline => ({
  session: project.sessionGeneration,
  fingerprint: project.fingerprint,
  state,
})
