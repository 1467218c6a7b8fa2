import type { Db } from '../../db/client.ts'
import { lastSeqOfRun } from '../../db/events.ts'
import { currentRun, findAliased, findAliasedOf, findRun, listRuns, type RunRow } from '../../db/runs.ts'
import { notFound, ProblemError } from '../../problems.ts'
import type { Caller } from '../accounts/accounts.ts'
import type { Subscription } from '../events/hub.ts'
import type { EventLog } from '../events/log.ts'
import { intentOf } from '../messages/intents.ts'
import type { Messages } from '../messages/messages.ts'
import type { Projects } from '../projects.ts'
import type { Runs } from '../runs/runs.ts'
import { isTerminal } from '../runs/states.ts'
import { type Language, languageOf } from '../words.ts'
import { recordDirectRun } from './direct-run.ts'
import type { Asked } from './input.ts'
import { type TranscriptMessage, transcript } from './transcript.ts'

/** A run as this door knows it. */
export interface Joined {
  row: RunRow
  /** What the client calls it. */
  runId: string
  language: Language
}

/** What there is to read of a run from a position on. */
export type Reading =
  /** Entries come once the subscription is started. `begins`: the reader has not been told that the run began. */
  | { kind: 'live'; begins: boolean; subscription: Subscription }
  /** The reader has everything. */
  | { kind: 'over' }
  /** The run is finished and so old that the log no longer holds it. */
  | { kind: 'not kept' }

export interface History {
  messages: TranscriptMessage[]
  activeRun: { runId: string } | null
  page: { truncated: boolean; cursor?: string }
}

/** Runs as AG-UI clients see them: a door to what `messages`, `runs` and the log do. */
export interface Agui {
  /**
   * Has done what the message asks for, as the run that the client calls `runId`; the same `runId` gives the same
   * run. Throws `idempotency_mismatch` when it was another message.
   */
  start(caller: Caller, projectId: string, runId: string, asked: Asked): Promise<Joined>
  /** A run of the user, by the client's name for it or by ours. */
  join(userId: string, runId: string): Promise<Joined>
  /** The run that a client which goes on reading has begun: it is not begun here. */
  rejoin(userId: string, projectId: string, runId: string): Promise<Joined>
  /** Reads on after an event id; null reads from the beginning. Throws `invalid_request` for one that it cannot continue. */
  read(run: Joined, after: string | null): Promise<Reading>
  /** What was said, in at most `limit` runs before the run `before`, and the run to join. */
  history(userId: string, projectId: string, page: { limit: number; before?: string }): Promise<History>
}

export function createAgui(options: {
  db: Db
  log: EventLog
  projects: Projects
  messages: Messages
  runs: Runs
}): Agui {
  const { db, log, projects, messages, runs } = options

  const byOurName = async (userId: string, runId: string) =>
    ID.test(runId) ? findRun(db, userId, runId) : undefined

  /** A run that was begun elsewhere has our name only, and clients hear it from `activeRun`. */
  async function known(userId: string, projectId: string, runId: string) {
    const aliased = await findAliased(db, projectId, runId)
    if (aliased) return aliased
    const row = await byOurName(userId, runId)
    return row?.projectId === projectId ? row : undefined
  }

  const joined = (row: RunRow, { language }: { language: string }): Joined => ({
    row,
    runId: row.alias ?? row.id,
    language: languageOf(language),
  })

  return {
    async start(caller, projectId, runId, { text, intent, whenBusy }) {
      const project = await projects.own(caller.userId, projectId)
      let row = await known(caller.userId, projectId, runId)
      if (!row) {
        const asked = intent === 'chat' ? 'chat' : intentOf(text)
        if (asked === 'chat') await runs.start(caller, projectId, { text, whenBusy, alias: runId })
        else {
          // No Idempotency-Key holds a space, so none can stand for this request.
          const answer = await messages.answer(caller, project, asked, `agui ${runId}`)
          await recordDirectRun(log, caller, projectId, { alias: runId, text, intent: asked, answer })
        }
        row = (await findAliased(db, projectId, runId))!
      }
      if (row.text !== text)
        throw new ProblemError('idempotency_mismatch', 'This runId was used with another message.')
      return joined(row, project)
    },

    async join(userId, runId) {
      const row = (await findAliasedOf(db, userId, runId)) ?? (await byOurName(userId, runId))
      if (!row) throw notFound()
      return joined(row, await projects.own(userId, row.projectId))
    },

    async rejoin(userId, projectId, runId) {
      const project = await projects.own(userId, projectId)
      const row = await known(userId, projectId, runId)
      if (!row) throw notFound()
      return joined(row, project)
    },

    async read({ row }, after) {
      const { projectId, acceptedSeq } = row
      const following = await log.follow(projectId, after ?? log.cursor(projectId, acceptedSeq))
      if (following === 'not a cursor')
        throw new ProblemError('invalid_request', 'This is not the id of an event.')
      if (!following.recovered) {
        if (after === null && isTerminal(row.state)) return { kind: 'not kept' }
        throw new ProblemError(
          'invalid_request',
          'This event can no longer be continued from. Read the run from its beginning: offset=-1.',
        )
      }
      const { subscription } = following
      const begins = after === null || subscription.from < acceptedSeq
      if (isTerminal(row.state)) {
        const last = await lastSeqOfRun(db, row.id).catch(error => {
          subscription.close()
          throw error
        })
        if (last === null || subscription.from >= last) {
          subscription.close()
          return { kind: begins ? 'not kept' : 'over' }
        }
      }
      return { kind: 'live', begins, subscription }
    },

    async history(userId, projectId, { limit, before }) {
      await projects.own(userId, projectId)
      // The run first: one that ends meanwhile is joined and found finished, and none is missed.
      const current = await currentRun(db, projectId)
      const rows = await listRuns(db, projectId, before, limit + 1)
      const shown = rows.slice(0, limit)
      return {
        messages: transcript(shown),
        activeRun: current ? { runId: current.alias ?? current.id } : null,
        page: rows.length > limit ? { truncated: true, cursor: shown.at(-1)!.id } : { truncated: false },
      }
    },
  }
}

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
