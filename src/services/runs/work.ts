import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../../config.ts'
import type { Db } from '../../db/client.ts'
import { loadProject, type ProjectRow } from '../../db/projects.ts'
import type { RunRow } from '../../db/runs.ts'
import { isDatabaseDown } from '../../problems.ts'
import type { Accounts, Caller } from '../accounts/accounts.ts'
import type { Append, EventLog } from '../events/log.ts'
import { holderOf, type Projects } from '../projects.ts'
import type { ClientState } from '../timeline/client-state.ts'
import type { Observation, Timelines } from '../timeline/timeline.ts'
import type { Credits, ProjectState, UpstreamClient } from '../upstream/client.ts'
import type { Outcome } from '../upstream/failures.ts'
import { type Language, languageOf } from '../words.ts'
import { DATABASE_RETRY_MS, LostRunError, type RunLog, withDatabase } from './run-log.ts'
import { isTerminal } from './states.ts'

const TRIES = 3
const TRY_AGAIN_MS = 1_000
/** A rate limit that lasts longer is told: nobody looks at a message that waits for an hour. */
const LONGEST_WAIT_MS = 120_000
/** What a column of Postgres holds. */
const MAX_INTEGER = 2 ** 31 - 1

export interface WorkOptions {
  db: Db
  log: EventLog
  accounts: Accounts
  projects: Projects
  timelines: Timelines
  upstream: UpstreamClient
  limits: Config['runs']
  rateLimitRetryMs: number
}

/** What a run at work listens to: the user's wish to stop, and this instance's shutdown. */
export interface RunSignals {
  stop: AbortSignal
  handOver: AbortSignal
}

/** The instance is going down: the run's row says where the next one goes on. */
export class HandOverError extends Error {
  override readonly name = 'HandOverError'
}

/** True for what the next attempt will not meet, or should meet again. */
export function isPassing(error: unknown): boolean {
  return error instanceof HandOverError || error instanceof LostRunError || isDatabaseDown(error)
}

/** The project as it was before the message. */
export interface Baseline {
  /** The generation of the session that the message went to; another one knows nothing of it. */
  session: number
  fingerprint: string | null
  state: ClientState
}

/** One run in the hands of one worker: its row as last written, and how it reads and waits. */
export interface Work {
  run: RunRow
  readonly project: ProjectRow
  readonly language: Language
  readonly runLog: RunLog
  readonly signals: RunSignals
  /** Aborted by a stop and by a shutdown. */
  readonly interrupted: AbortSignal
  /** Reads the project's state from the upstream. */
  read(): Promise<Outcome<ProjectState>>
  /** The same, asked again while the upstream does not answer. */
  readPatiently(): Promise<Outcome<ProjectState>>
  readCredits(): Promise<Credits | null>
  /** In the account that the project lives in by now: its first session may be younger than the run. */
  holder(): Promise<Caller>
  /** False once the session that the message went to is gone, and with it what the message did. */
  isReadable(): Promise<boolean>
  /** Asks again while the upstream has certainly not acted, and after a short rate limit once. */
  patiently<T>(ask: () => Promise<Outcome<T>>): Promise<Outcome<T>>
  /** Makes again what may be made again, while the database does not answer. */
  withDatabase<T>(act: () => Promise<T>): Promise<T>
  /** Waits, unless the user stops the run; throws HandOverError when the instance goes down. */
  pause(ms: number): Promise<void>
  throwIfHandedOver(): void
  /** Takes a state into the project and tells the run's readers, after its end the project's. */
  observe(tx: Db, append: Append, state: ProjectState): Promise<Observation>
}

export function createWork(
  { db, accounts, timelines, upstream, rateLimitRetryMs }: WorkOptions,
  { run, project, runLog, signals }: Pick<Work, 'run' | 'project' | 'runLog' | 'signals'>,
): Work {
  const caller = { userId: run.userId, platform: run.platform }

  const work: Work = {
    run,
    project,
    language: languageOf(project.language),
    runLog,
    signals,
    interrupted: AbortSignal.any([signals.stop, signals.handOver]),

    read: () => work.withDatabase(() => timelines.read(project, caller)),

    readPatiently: () =>
      work.patiently(async () => {
        const outcome = await work.read()
        // A read may always be asked again.
        return outcome.kind === 'transient' ? { ...outcome, delivered: 'no' as const } : outcome
      }),

    async readCredits() {
      const outcome = await work.withDatabase(async () =>
        accounts.call(await work.holder(), credential => upstream.credits(credential)),
      )
      if (outcome.kind !== 'ok') return null
      const { available, frozen, total } = outcome.value
      return { available: whole(available), frozen: whole(frozen), total: whole(total) }
    },

    holder: async () => holderOf((await loadProject(db, project.id)) ?? project, caller),

    async isReadable() {
      const current = await work.withDatabase(() => loadProject(db, project.id))
      return current?.sessionGeneration === (work.run.baseline as Baseline).session
    },

    async patiently(ask) {
      for (let tried = 1, limited = false; ; tried++) {
        const outcome = await ask()
        if (outcome.kind === 'rate_limited' && !limited && (outcome.retryAfterMs ?? 0) <= LONGEST_WAIT_MS) {
          limited = true
          await work.pause(outcome.retryAfterMs ?? rateLimitRetryMs)
        } else if (outcome.kind === 'transient' && outcome.delivered === 'no' && tried < TRIES) {
          await work.pause(TRY_AGAIN_MS * tried)
        } else return outcome
        if (signals.stop.aborted) return { kind: 'aborted' }
      }
    },

    withDatabase: act =>
      withDatabase(act, {
        async pause() {
          await sleep(DATABASE_RETRY_MS, undefined, { signal: signals.handOver }).catch(() => {})
          work.throwIfHandedOver()
        },
      }),

    async pause(ms) {
      await sleep(ms, undefined, { signal: work.interrupted }).catch(() => {})
      work.throwIfHandedOver()
    },

    throwIfHandedOver() {
      if (signals.handOver.aborted) throw new HandOverError('This instance is going down')
    },

    observe: (tx, append, state) =>
      timelines.observe(tx, append, run.projectId, state, isTerminal(work.run.state) ? undefined : run.id),
  }
  return work
}

const whole = (amount: number) => Math.min(Math.floor(amount), MAX_INTEGER)
