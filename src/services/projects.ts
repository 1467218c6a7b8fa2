import { randomUUIDv7 } from 'node:crypto'
import type { Db } from '../db/client.ts'
import {
  clearState,
  deleteProject,
  findProjects,
  insertProject,
  listProjects,
  loadProject,
  loadProjectState,
  type ProjectRow,
  renameProject,
  storeSession,
} from '../db/projects.ts'
import { activeRunId } from '../db/runs.ts'
import { notFound } from '../problems.ts'
import type { Accounts, Caller } from './accounts/accounts.ts'
import { custom } from './events/event.ts'
import type { Append, EventLog } from './events/log.ts'
import { gather } from './gather.ts'
import { type List, listOf } from './lists.ts'
import { clientState, stateDelta } from './timeline/client-state.ts'
import type { Credential, UpstreamClient } from './upstream/client.ts'
import type { Outcome } from './upstream/failures.ts'
import { languageOf, words } from './words.ts'

/** A project as clients see it. */
export interface Project {
  id: string
  name: string
  language: string
  summary: string | null
  exportable: boolean
  revision: number
  createdAt: string
  lastActivityAt: string
  cursor?: string
}

export interface Projects {
  create(userId: string, a: { name?: string; language: string }): Promise<Project>
  list(userId: string, after: string | undefined, limit: number): Promise<List<Project>>
  /** With the cursor from which events continue this snapshot. */
  get(userId: string, id: string): Promise<Project>
  rename(userId: string, id: string, name: string): Promise<Project>
  remove(userId: string, id: string): Promise<void>
  /** The row of the user's own project, for other services; throws `not_found`. */
  own(userId: string, id: string): Promise<ProjectRow>
  /** Throws `not_found` unless the project is the user's own: at most one look in 20 ms, for all who ask meanwhile. */
  checkOwn(userId: string, id: string): Promise<void>
  /**
   * Calls the upstream within the project's session, made when first needed. A session that is gone is replaced
   * once, which the log tells, and the call, which was not accepted, is made once more (upstream-contract §5, 1002).
   */
  call<T>(
    project: { id: string },
    caller: Caller,
    send: (credential: Credential, sessionId: string) => Promise<Outcome<T>>,
  ): Promise<Outcome<T>>
  /** A link that opens the project on the service's own site. */
  claimLink(userId: string, id: string, platform: string): Promise<{ url: string; expiresAt: string }>
}

const GATHER_MS = 20

/** The caller in the account that the project lives in, which need not be the one that serves the user now. */
export const holderOf = (
  { sessionId, accountId }: Pick<ProjectRow, 'sessionId' | 'accountId'>,
  caller: Caller,
): Caller => (sessionId === null ? caller : { ...caller, accountId })

type Session = { sessionId: string; taskId: string; accountId: string | null; generation: number }

export function createProjects(options: {
  db: Db
  log: EventLog
  accounts: Accounts
  upstream: UpstreamClient
}): Projects {
  const { db, log, accounts, upstream } = options
  const findAll = (asked: { userId: string; id: string }[]) => findProjects(db, asked)
  const find = gather(0, findAll)
  const findLater = gather(GATHER_MS, findAll)
  const openings = new Map<string, Promise<Outcome<Session>>>()

  async function own(userId: string, id: string): Promise<ProjectRow> {
    const row = await find({ userId, id })
    if (!row) throw notFound()
    return row
  }

  const held = (row: ProjectRow): Outcome<Session> => ({
    kind: 'ok',
    value: {
      sessionId: row.sessionId!,
      taskId: row.taskId!,
      accountId: row.accountId,
      generation: row.sessionGeneration,
    },
  })

  /** The session after `generation`; this instance asks for it once however many calls want it. */
  function open(projectId: string, generation: number, caller: Caller): Promise<Outcome<Session>> {
    const key = `${projectId}:${generation}`
    let opening = openings.get(key)
    if (!opening) {
      opening = openOnce(projectId, generation, caller).finally(() => openings.delete(key))
      openings.set(key, opening)
    }
    return opening
  }

  async function openOnce(projectId: string, generation: number, caller: Caller): Promise<Outcome<Session>> {
    const row = await loadProject(db, projectId)
    if (!row) return { kind: 'rejected', status: 404, code: null }
    if (row.sessionGeneration > generation && row.sessionId) return held(row)
    let accountId: string | null = null
    const made = await accounts.call(caller, (credential, id) => {
      accountId = id
      return upstream.createSession(credential, { name: 'project', language: upstreamLanguage(row.language) })
    })
    if (made.kind !== 'ok') return made
    const { sessionId, taskId, userId } = made.value
    if (accountId && userId) await accounts.learnUpstreamUserId(accountId, userId)
    const current = await log.transaction(async (tx, append) => {
      // Of two instances that asked at once, one is kept; the other's session stays empty and unused.
      if (!(await storeSession(tx, projectId, generation, { sessionId, taskId, accountId })))
        return (await loadProject(tx, projectId))!
      if (generation > 0) await beginAnew(tx, append, projectId)
      return (await loadProject(tx, projectId))!
    })
    return held(current)
  }

  async function within<T>(
    projectId: string,
    caller: Caller,
    send: (credential: Credential, session: Session) => Promise<Outcome<T>>,
  ): Promise<Outcome<T>> {
    const row = await loadProject(db, projectId)
    const first =
      row?.sessionId && row.taskId ? held(row) : await open(projectId, row?.sessionGeneration ?? 0, caller)
    if (first.kind !== 'ok') return first
    // A session opens for the account that made it alone, whichever serves the user by now.
    const holder = holderOf(first.value, caller)
    const outcome = await accounts.call(holder, credential => send(credential, first.value))
    if (outcome.kind !== 'session') return outcome
    const second = await open(projectId, first.value.generation, holder)
    if (second.kind !== 'ok') return second
    return accounts.call(holder, credential => send(credential, second.value))
  }

  return {
    own,

    async checkOwn(userId, id) {
      if (!(await findLater({ userId, id }))) throw notFound()
    },

    async create(userId, { name, language }) {
      const row = await insertProject(db, { id: randomUUIDv7(), userId, name: name ?? 'Untitled', language })
      return { ...toProject(row), cursor: log.cursor(row.id, row.lastSeq) }
    },

    list: (userId, after, limit) => listOf(limit, n => listProjects(db, userId, after, n), toProject),

    async get(userId, id) {
      const row = await own(userId, id)
      return { ...toProject(row), cursor: log.cursor(row.id, row.lastSeq) }
    },

    async rename(userId, id, name) {
      await own(userId, id)
      return log.transaction(async (tx, append) => {
        const project = toProject(await renameProject(tx, id, name))
        await append(id, [custom('project.updated', project)])
        return project
      })
    },

    async remove(userId, id) {
      await own(userId, id)
      await deleteProject(db, id)
    },

    call: (project, caller, send) =>
      within(project.id, caller, (credential, { sessionId }) => send(credential, sessionId)),

    async claimLink(userId, id, platform) {
      const project = await own(userId, id)
      const link = await within(id, { userId, platform }, upstream.claimLink)
      const holder = holderOf(project, { userId, platform })
      const { url, expiresInMs } = await accounts.valueOrThrow(link, holder, project.language)
      return { url, expiresAt: new Date(Date.now() + expiresInMs).toISOString() }
    },
  }
}

export function toProject(row: ProjectRow): Project {
  const { id, name, language, summary, exportable, revision, createdAt, lastActivityAt } = row
  return {
    id,
    name,
    language,
    summary,
    exportable,
    revision,
    createdAt: createdAt.toISOString(),
    lastActivityAt: lastActivityAt.toISOString(),
  }
}

/** The new session holds nothing of the old one. Those who follow a run at work must not miss that revision. */
async function beginAnew(tx: Db, append: Append, projectId: string) {
  const before = clientState((await loadProjectState(tx, projectId))!)
  const project = await clearState(tx, projectId)
  const run = await activeRunId(tx, projectId)
  if (run) await append(projectId, [stateDelta(before, clientState(project))], run)
  await append(projectId, [
    custom('project.session_replaced', {
      reason: 'expired',
      note: words[languageOf(project.language)].notes.sessionReplaced,
      // What had been uploaded is gone with the session.
      media: before.media,
    }),
    custom('project.updated', toProject(project)),
  ])
}

/** upstream-contract §2.3 names a few languages; anything Chinese is `zh-CN` there. */
function upstreamLanguage(language: string): string {
  return /^zh\b/i.test(language) ? 'zh-CN' : language.split('-')[0]!.toLowerCase()
}
