import type { Db } from '../../db/client.ts'
import {
  loadProjectState,
  lockProject,
  type ProjectStateRow,
  storeState,
  touchStateFetched,
} from '../../db/projects.ts'
import { activeRunId } from '../../db/runs.ts'
import type { Caller } from '../accounts/accounts.ts'
import { custom } from '../events/event.ts'
import type { Append, EventLog } from '../events/log.ts'
import { type Projects, toProject } from '../projects.ts'
import type { ProjectState, UpstreamClient } from '../upstream/client.ts'
import type { Outcome } from '../upstream/failures.ts'
import { languageOf } from '../words.ts'
import { type ClientState, clientState, stateDelta } from './client-state.ts'
import { decodeDraft, type Timeline } from './draft.ts'
import { summarise } from './summary.ts'

/** The timeline as `GET …/timeline` shows it. */
export type TimelineView = Timeline & { summary: string; revision: number; fetchedAt: string }

/** What a look at the upstream found: the state before and after, which are the same object when nothing changed. */
export interface Observation {
  project: ProjectStateRow
  before: ClientState
  after: ClientState
  changed: boolean
}

export interface Timelines {
  /** Reads the project's state from the upstream. Changes nothing here. */
  read(project: { id: string }, caller: Caller): Promise<Outcome<ProjectState>>
  /**
   * Takes what was read into the project's row and tells the log, all inside `tx`. While a run is at work the change
   * is an entry of that run, whoever saw it first: its readers' copies must not miss a revision.
   */
  observe(
    tx: Db,
    append: Append,
    projectId: string,
    state: ProjectState,
    runId?: string,
  ): Promise<Observation>
  /** Read afresh; the last known one when the upstream does not answer. */
  view(userId: string, projectId: string, platform: string): Promise<TimelineView>
}

export function createTimelines(options: {
  db: Db
  log: EventLog
  projects: Projects
  upstream: UpstreamClient
}): Timelines {
  const { db, log, projects, upstream } = options

  const read = (project: { id: string }, caller: Caller) =>
    projects.call(project, caller, (credential, sessionId) => upstream.state(credential, { sessionId }))

  return {
    read,
    observe,

    async view(userId, projectId, platform) {
      const known = await projects.own(userId, projectId)
      const outcome = await read(known, { userId, platform })
      if (outcome.kind !== 'ok') return toView((await loadProjectState(db, projectId))!)
      return log.transaction(async (tx, append) => {
        const current = (await lockProject(tx, projectId))!
        // Others have looked since, and theirs may be the later look: an old state must not come back.
        if (current.revision !== known.revision) return toView(current)
        return toView((await observe(tx, append, projectId, outcome.value)).project)
      })
    },
  }
}

async function observe(
  tx: Db,
  append: Append,
  projectId: string,
  state: ProjectState,
  runId?: string,
): Promise<Observation> {
  const known = (await lockProject(tx, projectId))!
  const before = clientState(known)
  if (known.fingerprint === state.fingerprint) {
    await touchStateFetched(tx, projectId)
    return { project: known, before, after: before, changed: false }
  }
  const timeline = decodeDraft(state.draft)
  const project = await storeState(tx, projectId, {
    fingerprint: state.fingerprint,
    timeline,
    media: state.media,
    summary: summarise(timeline, languageOf(known.language)),
    exportable: timeline.exportable,
    revision: known.revision + 1,
  })
  const after = clientState(project)
  const run = runId ?? (await activeRunId(tx, projectId))
  if (run) await append(projectId, [stateDelta(before, after)], run)
  await append(projectId, [custom('project.updated', toProject(project))])
  return { project, before, after, changed: true }
}

function toView(project: ProjectStateRow): TimelineView {
  const { timeline, revision } = clientState(project)
  return {
    ...timeline,
    summary: project.summary ?? summarise(timeline, languageOf(project.language)),
    revision,
    fetchedAt: (project.stateFetchedAt ?? project.createdAt).toISOString(),
  }
}
