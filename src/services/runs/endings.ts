import type { Db } from '../../db/client.ts'
import { updateRun } from '../../db/runs.ts'
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
  /** `sent: false` when the message never left. */
  stopped(said: Said, sent: boolean): Promise<void>
}

export function createEndings({ accounts }: { accounts: Accounts }, work: Work): Endings {
  const { project, language, runLog } = work

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
      openMessageId: null,
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

  /** What has changed since before the message, in words; null when nothing has. */
  function changesSince({ project }: Observation): string | null {
    const before = (work.run.baseline as Baseline).state
    const after = clientState(project)
    const media = { before: before.media, after: after.media }
    return describeChanges(before.timeline, after.timeline, language, media)
  }

  async function failWith(problem: Problem, said: Said, change: Parameters<typeof updateRun>[2]) {
    const begun = work.run.startedAt !== null
    // What the message changed before it failed belongs to the project all the same.
    const [state, credits] = begun ? await Promise.all([work.read(), work.readCredits()]) : [null, null]
    await runLog.transaction(async (tx, append) => {
      if (state?.kind === 'ok') await work.observe(tx, append, state.value)
      await tell(append, [...said.last, runError(problem)])
      await end(tx, append, credits, { ...change, state: 'failed', problem, ...replyOf(said) })
    })
  }

  return {
    async completed(said, state, truncated = false) {
      const credits = await work.readCredits()
      await runLog.transaction(async (tx, append) => {
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
      const problem = await accounts.problem(failure, work.run.userId, project.language)
      await failWith(problem, NOTHING_SAID, { delivery: 'not_sent' })
    },

    async failed(code, said) {
      const problem = await accounts.userProblem(code, work.run.userId, project.language)
      await failWith(problem, said, code === 'outcome_unknown' ? { outcome: 'unknown' } : {})
    },

    async stopped(said, sent) {
      await runLog.transaction(async (tx, append) => {
        await tell(append, [...said.last, runFinished(work.run, 'cancelled')])
        await end(tx, append, null, { state: 'stopped', settled: !sent, ...replyOf(said) })
      })
    },
  }
}

const replyOf = ({ reply }: Said) => (reply === '' ? {} : { reply })
