import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/client.ts'
import { loadProject, type ProjectRow } from '../../db/projects.ts'
import { loadRun, type RunRow, takeRun, updateRun } from '../../db/runs.ts'
import type { Problem, ProblemCode } from '../../problems.ts'
import type { Accounts } from '../accounts/accounts.ts'
import { type Chunk, custom } from '../events/event.ts'
import type { Append, EventLog } from '../events/log.ts'
import type { RunJob } from '../jobs/jobs.ts'
import { createNarrator, type Narrator, ownMessage } from '../narration/narrator.ts'
import type { Projects } from '../projects.ts'
import { describeChanges } from '../timeline/changes.ts'
import { type ClientState, clientState, type Observation, type Timelines } from '../timeline/timeline.ts'
import type { ProjectState, UpstreamClient } from '../upstream/client.ts'
import type { Failure, Outcome } from '../upstream/failures.ts'
import type { Meaning } from '../upstream/frames.ts'
import { languageOf, words } from '../words.ts'
import { judge } from './reconcile.ts'
import { relay } from './relay.ts'
import { closeMessage, runError, runFinished, runStarted, runStateEntry } from './run.ts'
import { createRunLog, LostRunError, type RunLog } from './run-log.ts'
import { isTerminal } from './states.ts'

const TRIES = 3
const TRY_AGAIN_MS = 1_000
const SETTLE_LIMIT_MS = 60_000
const SETTLE_EVERY_MS = 2_000

export interface AdvanceOptions {
  db: Db
  log: EventLog
  accounts: Accounts
  projects: Projects
  timelines: Timelines
  upstream: UpstreamClient
  limits: Config['runs']
  rateLimitRetryMs: number
}

/** The project as it was before the message. */
interface Baseline {
  fingerprint: string | null
  state: ClientState
}

/** The signals a run at work listens to: the user's stop, and this instance's shutdown. */
export interface RunSignals {
  stop: AbortSignal
  handOver: AbortSignal
}

/** The instance is going down: the run's row says where the next one goes on. */
export class HandOverError extends Error {
  override readonly name = 'HandOverError'
}

/**
 * Brings one run to its end, from wherever its row says it is. Intent is written before effect: the row says `sent`
 * before the message's first byte leaves, so a run that is found `sent` by another worker is never sent again; what
 * became of it is read from the project's state.
 */
export function createAdvance(options: AdvanceOptions) {
  const { db, log, accounts, projects, timelines, upstream, limits } = options

  return async function advance(job: RunJob, attempt: number, signals: RunSignals): Promise<void> {
    const run = await takeRun(db, job.runId, attempt)
    if (!run) {
      if (await loadRun(db, job.runId)) throw new LostRunError('A later attempt has this run')
      return
    }
    const project = (await loadProject(db, run.projectId))!
    const work = createWork(run, project, createRunLog({ db, log, run }), signals)
    if (run.state === 'queued') await work.begin()
    else if (!isTerminal(run.state)) await work.reconcile(closeMessage(run.openMessageId))
    await work.settle()
  }

  function createWork(run: RunRow, project: ProjectRow, runLog: RunLog, signals: RunSignals) {
    const caller = { userId: run.userId, platform: run.platform }
    const language = languageOf(project.language)
    const interrupted = AbortSignal.any([signals.stop, signals.handOver])

    const read = () => timelines.read(project, caller)
    const readCredits = async () => {
      const outcome = await accounts.call(caller, credential => upstream.credits(credential))
      return outcome.kind === 'ok' ? outcome.value : null
    }

    /** Waits, unless the user stops the run or the instance goes down. */
    async function pause(ms: number) {
      await sleep(ms, undefined, { signal: interrupted }).catch(() => {})
      if (signals.handOver.aborted) throw new HandOverError('This instance is going down')
    }

    /** Asks again while the upstream has certainly not acted, and after a rate limit once. */
    async function patiently<T>(ask: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
      for (let tried = 1, limited = false; ; tried++) {
        const outcome = await ask()
        if (outcome.kind === 'rate_limited' && !limited) {
          limited = true
          await pause(outcome.retryAfterMs ?? options.rateLimitRetryMs)
        } else if (outcome.kind === 'transient' && outcome.delivered === 'no' && tried < TRIES) {
          await pause(TRY_AGAIN_MS * tried)
        } else return outcome
        if (signals.stop.aborted) return { kind: 'aborted' }
      }
    }

    /** The same for reads, which may always be asked again. */
    const readPatiently = () =>
      patiently(async () => {
        const outcome = await read()
        return outcome.kind === 'transient' ? { ...outcome, delivered: 'no' as const } : outcome
      })

    async function begin(): Promise<void> {
      const [state, credits] = await Promise.all([readPatiently(), readCredits()])
      if (signals.stop.aborted) return stopped([], 'before it was sent')
      if (state.kind !== 'ok') return fail(state)
      await start(state.value, credits?.available ?? null)

      const narrator = createNarrator({ projectId: project.id, language })
      const answer = await patiently(() =>
        projects.call(project, caller, (credential, sessionId) =>
          upstream.run(credential, { sessionId, text: run.text, signal: interrupted }),
        ),
      )
      if (answer.kind === 'ok') return follow(answer.value.meanings, narrator)
      if (signals.handOver.aborted) throw new HandOverError('This instance is going down')
      if (answer.kind === 'aborted') return stopped([], 'while it was sent')
      if (mayHaveArrived(answer)) return reconcile([])
      await fail(answer)
    }

    /** Tells the log that the run begins and writes down that the message is about to leave. */
    async function start(state: ProjectState, creditsBefore: number | null) {
      run = await runLog.transaction(async (tx, append) => {
        const { project, after } = await timelines.observe(tx, append, run.projectId, state)
        const baseline: Baseline = { fingerprint: project.fingerprint, state: after }
        const started = await updateRun(tx, run.id, {
          state: 'running',
          startedAt: new Date(),
          delivery: 'sent',
          baseline,
          creditsBefore,
        })
        await append(run.projectId, [runStateEntry(started)])
        await append(run.projectId, [runStarted(run), { type: 'STATE_SNAPSHOT', snapshot: after }], run.id)
        return started
      })
    }

    async function follow(meanings: AsyncIterable<Meaning>, narrator: Narrator): Promise<void> {
      await runLog.transaction(tx => updateRun(tx, run.id, { delivery: 'acknowledged' }))
      const end = await relay({
        meanings,
        narrator,
        runLog,
        noticeMs: limits.noticeMs,
        note: words[language].notes.stillWorking,
        look: async () => {
          const state = await read()
          if (state.kind === 'ok') await runLog.transaction((tx, append) => observe(tx, append, state.value))
        },
      })
      if (signals.handOver.aborted) throw new HandOverError('This instance is going down')
      const last = narrator.finish()
      if (signals.stop.aborted && end.kind !== 'end') return stopped(last, 'while it ran', narrator.text())
      if (end.kind === 'cut') return reconcile(last, narrator.text())
      if (end.kind === 'error') return failWith(problemCode(end.code), last, narrator.text())
      await conclude(last, narrator.text(), end.truncated)
    }

    const observe = (tx: Db, append: Append, state: ProjectState) =>
      timelines.observe(tx, append, run.projectId, state, run.id)

    /** What has changed since before the message, in words; null when nothing has. */
    function changesSince({ project }: Observation): string | null {
      const before = (run.baseline as Baseline).state
      const after = clientState(project)
      const media = { before: before.media, after: after.media }
      return describeChanges(before.timeline, after.timeline, language, media)
    }

    /** A clean end. One that said nothing is summed up from what changed (upstream-contract §0.3). */
    async function conclude(last: Chunk[], reply: string, truncated = false): Promise<void> {
      const [state, credits] = await Promise.all([readPatiently(), readCredits()])
      if (state.kind !== 'ok' && reply === '') return reconcile(last)
      await runLog.transaction(async (tx, append) => {
        const changes = state.kind === 'ok' ? changesSince(await observe(tx, append, state.value)) : null
        const silent = reply === ''
        const said = silent ? silentWords(changes) : reply
        const metadata = { ...(silent ? { silent: true } : {}), ...(truncated ? { truncated: true } : {}) }
        await append(
          run.projectId,
          [...last, ...(silent ? ownMessage(said) : []), runFinished(run, 'success', metadata)],
          run.id,
        )
        await finish(tx, append, credits, {
          state: 'completed',
          outcome: changes ? 'edited' : silent ? 'unchanged' : 'answered',
          reply: said,
          summary: changes,
        })
      })
    }

    const silentWords = (changes: string | null) =>
      changes ? words[language].silent.done(changes) : words[language].silent.unchanged

    /** Writes the run's last state and tells the project's readers. */
    async function finish(
      tx: Db,
      append: Append,
      credits: { available: number; frozen: number; total: number } | null,
      change: Parameters<typeof updateRun>[2],
    ) {
      const creditsAfter = credits?.available ?? null
      run = await updateRun(tx, run.id, {
        ...change,
        finishedAt: new Date(),
        creditsAfter,
        openMessageId: null,
      })
      const chunks = [runStateEntry(run)]
      if (credits && creditsAfter !== run.creditsBefore) chunks.push(custom('credits.changed', credits))
      await append(run.projectId, chunks)
    }

    async function fail(failure: Failure): Promise<void> {
      await failWithProblem(await accounts.problem(failure, run.userId, project.language), [])
    }

    async function failWith(code: ProblemCode, last: Chunk[], reply: string) {
      const problem = await accounts.userProblem(code, run.userId, project.language)
      // What the message changed before it failed belongs to the project all the same.
      const state = await read()
      await failWithProblem(problem, last, reply, state.kind === 'ok' ? state.value : undefined)
    }

    async function failWithProblem(problem: Problem, last: Chunk[], reply = '', state?: ProjectState) {
      const credits = run.startedAt ? await readCredits() : null
      await runLog.transaction(async (tx, append) => {
        if (state) await observe(tx, append, state)
        const started = run.startedAt ? [] : [runStarted(run)]
        await append(run.projectId, [...started, ...last, runError(problem)], run.id)
        const outcome = problem.code === 'outcome_unknown' ? ('unknown' as const) : undefined
        await finish(tx, append, credits, {
          state: 'failed',
          problem,
          ...(outcome ? { outcome } : {}),
          ...(reply ? { reply } : {}),
        })
      })
    }

    async function stopped(
      last: Chunk[],
      when: 'before it was sent' | 'while it was sent' | 'while it ran',
      reply = '',
    ) {
      await runLog.transaction(async (tx, append) => {
        const started = run.startedAt ? [] : [runStarted(run)]
        await append(run.projectId, [...started, ...last, runFinished(run, 'cancelled')], run.id)
        await finish(tx, append, null, {
          state: 'stopped',
          settled: when === 'before it was sent',
          ...(reply ? { reply } : {}),
        })
      })
    }

    /** The answer was cut off. The message is not sent again: what became of it is read from the state. */
    async function reconcile(last: Chunk[], reply = ''): Promise<void> {
      const reconciling = limits.reconcile
      run = await runLog.transaction(async (tx, append) => {
        await append(run.projectId, last, run.id)
        if (run.state === 'reconciling') return run
        const row = await updateRun(tx, run.id, {
          state: 'reconciling',
          delivery: run.delivery === 'acknowledged' ? 'acknowledged' : 'unknown',
          nextReadAt: new Date(Date.now() + reconciling.firstMs),
          ...(reply ? { reply } : {}),
        })
        await append(run.projectId, [runStateEntry(row)])
        return row
      })
      const giveUpAt =
        run.startedAt!.getTime() +
        limits.limitMs +
        reconciling.firstMs +
        reconciling.everyMs * (reconciling.reads + 1)
      while (true) {
        await pause(Math.max(0, run.nextReadAt!.getTime() - Date.now()))
        if (signals.stop.aborted) return stopped([], 'while it ran', run.reply ?? '')
        const state = await read()
        const nextReadAt = new Date(Date.now() + reconciling.everyMs)
        if (state.kind === 'ok') {
          const known = {
            baseline: (run.baseline as Baseline).fingerprint,
            lastRead: run.lastRead,
            unchangedReads: run.unchangedReads,
          }
          const verdict = judge(state.value.fingerprint, known, reconciling.reads)
          if (verdict.kind === 'edited') return conclude([], run.reply ?? '')
          if (verdict.kind === 'unknown') return failWith('outcome_unknown', [], run.reply ?? '')
          run = await runLog.transaction(async (tx, append) => {
            await observe(tx, append, state.value)
            const { unchangedReads } = verdict
            return updateRun(tx, run.id, { unchangedReads, lastRead: state.value.fingerprint, nextReadAt })
          })
        } else {
          if (Date.now() > giveUpAt) return failWith('outcome_unknown', [], run.reply ?? '')
          run = await runLog.transaction(tx => updateRun(tx, run.id, { nextReadAt }))
        }
      }
    }

    /** After a stop the upstream may still be editing: the next message waits until two reads agree. */
    async function settle(): Promise<void> {
      if (run.settled) return
      const everyMs = Math.min(SETTLE_EVERY_MS, limits.reconcile.everyMs)
      let last: string | null = null
      for (const end = Date.now() + SETTLE_LIMIT_MS; Date.now() < end; ) {
        const state = await read()
        if (state.kind === 'ok') {
          await runLog.transaction((tx, append) => timelines.observe(tx, append, run.projectId, state.value))
          if (state.value.fingerprint === last) break
          last = state.value.fingerprint
        }
        await sleep(everyMs, undefined, { signal: signals.handOver }).catch(() => {})
        if (signals.handOver.aborted) throw new HandOverError('This instance is going down')
      }
      run = await runLog.transaction(tx => updateRun(tx, run.id, { settled: true }))
    }

    return { begin, reconcile, settle }
  }
}

/** True when the message may have reached the upstream, so that only its state can tell. */
function mayHaveArrived(failure: Failure): boolean {
  return failure.kind === 'protocol' || (failure.kind === 'transient' && failure.delivered === 'unknown')
}

function problemCode(code: (Meaning & { kind: 'error' })['code']): ProblemCode {
  return code === 'session_lost' ? 'upstream_unavailable' : code
}
