import { crashPoint } from '../../crash-points.ts'
import type { Db } from '../../db/client.ts'
import { loadRun, updateRun } from '../../db/runs.ts'
import type { Problem, ProblemCode } from '../../problems.ts'
import type { Accounts } from '../accounts/accounts.ts'
import { type Chunk, custom } from '../events/event.ts'
import type { Append } from '../events/log.ts'
import { ownMessage } from '../narration/narrator.ts'
import { describeChanges } from '../timeline/changes.ts'
import { clientState } from '../timeline/client-state.ts'
import type { Observation } from '../timeline/timeline.ts'
import type { Credits, ProjectState } from '../upstream/client.ts'
import type { Failure } from '../upstream/failures.ts'
import { words } from '../words.ts'
import { runError, runFinished, runStarted, runStateEntry } from './run.ts'
import { isTerminal } from './states.ts'
import type { Baseline, Work } from './work.ts'

/** What the stream left to be written, and all that it said. */
export interface Said {
  last: Chunk[]
  reply: string
}

export const NOTHING_SAID: Said = { last: [], reply: '' }

/** The four ways in which a run ends. Each is one transaction: the row, the run's last entry, and the news. */
export interface Endings {
  /** A clean end. One that said nothing is summed up from what changed (upstream-contract §0.3). */
  completed(said: Said, state: ProjectState | null, truncated?: boolean): Promise<void>
  /** The message was refused and nothing was done. */
  refused(failure: Failure): Promise<void>
  failed(code: ProblemCode, said: Said): Promise<void>
  /** The message never left, or changed nothing that can be seen. */
  stopped(said: Said): Promise<void>
}

export function createEndings({ accounts }: { accounts: Accounts }, work: Work): Endings {
  const { project, language, runLog } = work

  /** Ends the run, unless it has ended: a stop that the user was told of is not taken back. */
  const once = (write: (tx: Db, append: Append) => Promise<void>) =>
    runLog.transaction(async (tx, append) => {
      work.run = (await loadRun(tx, work.run.id))!
      if (!isTerminal(work.run.state)) await write(tx, append)
      crashPoint('run.before_end_commit')
    })

  /** Writes the run's last state and tells the project's readers. */
  async function end(
    tx: Db,
    append: Append,
    credits: Credits | null,
    change: Parameters<typeof updateRun>[2],
  ) {
    const before = work.run.creditsBefore
    const creditsAfter = credits?.available ?? null
    const row = await updateRun(tx, work.run.id, {
      ...change,
      finishedAt: new Date(),
      creditsAfter,
    })
    const news = credits && creditsAfter !== before ? [custom('credits.changed', credits)] : []
    await append(row.projectId, [runStateEntry(row), ...news])
    work.run = row
  }

  const tell = (append: Append, chunks: Chunk[]) => {
    // A run may end before it began; its readers see a beginning all the same.
    const beginning = work.run.startedAt ? [] : [runStarted(work.run)]
    return append(work.run.projectId, [...beginning, ...chunks], work.run.id)
  }

  /** What has changed since before the message, in words; null when nothing has, or nothing is left to compare. */
  function changesSince({ project }: Observation): string | null {
    const { state: before, session } = work.run.baseline as Baseline
    if (project.sessionGeneration !== session) return null
    const after = clientState(project)
    const media = { before: before.media, after: after.media }
    return describeChanges(before.timeline, after.timeline, language, media)
  }

  async function failWith(problem: Problem, said: Said, change: Parameters<typeof updateRun>[2]) {
    const begun = work.run.startedAt !== null
    // What the message changed before it failed belongs to the project all the same.
    // Whatever keeps us from looking must not keep the run from ending.
    const look = () => Promise.all([work.read(), work.readCredits()]).catch(() => [null, null] as const)
    const [state, credits] = begun ? await look() : [null, null]
    await once(async (tx, append) => {
      if (state?.kind === 'ok') await work.observe(tx, append, state.value)
      await tell(append, [...said.last, runError(problem)])
      await end(tx, append, credits, { ...change, state: 'failed', problem, ...replyOf(said) })
    })
  }

  return {
    async completed(said, state, truncated = false) {
      const credits = await work.readCredits()
      await once(async (tx, append) => {
        const changes = state ? changesSince(await work.observe(tx, append, state)) : null
        const silent = said.reply === ''
        const { done, unchanged } = words[language].silent
        const reply = silent ? (changes ? done(changes) : unchanged) : said.reply
        const metadata = { ...(silent ? { silent } : {}), ...(truncated ? { truncated } : {}) }
        const summary = silent ? ownMessage(reply) : []
        await tell(append, [...said.last, ...summary, runFinished(work.run, 'success', metadata)])
        const outcome = changes ? 'edited' : silent ? 'unchanged' : 'answered'
        await end(tx, append, credits, { state: 'completed', outcome, reply, summary: changes })
      })
    },

    async refused(failure) {
      const problem = await work.withDatabase(async () =>
        accounts.problem(failure, await work.holder(), project.language),
      )
      await failWith(problem, NOTHING_SAID, { delivery: 'not_sent' })
    },

    async failed(code, said) {
      const problem = await work.withDatabase(async () =>
        accounts.userProblem(code, await work.holder(), project.language),
      )
      // An unknown outcome has been waited for; after another error the upstream may still be at work.
      const change =
        code === 'outcome_unknown' ? { outcome: 'unknown' as const } : { settled: !work.run.startedAt }
      await failWith(problem, said, change)
    },

    async stopped(said) {
      await once(async (tx, append) => {
        await tell(append, [...said.last, runFinished(work.run, 'cancelled')])
        await end(tx, append, null, { state: 'stopped', ...replyOf(said) })
      })
    },
  }
}

const replyOf = ({ reply }: Said) => (reply === '' ? {} : { reply })
