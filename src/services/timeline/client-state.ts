import type { ProjectStateRow } from '../../db/projects.ts'
import type { Chunk } from '../events/event.ts'
import type { Media } from '../upstream/client.ts'
import { diffState } from './diff.ts'
import { decodeDraft, type Timeline } from './draft.ts'

/** What a client's copy of a project holds: `STATE_SNAPSHOT` sends it, `STATE_DELTA` patches it. */
export interface ClientState {
  revision: number
  timeline: Timeline
  media: Media[]
}

export function clientState(project: ProjectStateRow): ClientState {
  return {
    revision: project.revision,
    timeline: (project.timeline as Timeline | null) ?? decodeDraft(null),
    media: project.media as Media[],
  }
}

/** A patch that fails on a copy that has drifted, because it tests the revision first. */
export const stateDelta = (before: ClientState, after: ClientState): Chunk => ({
  type: 'STATE_DELTA',
  delta: [{ op: 'test', path: '/revision', value: before.revision }, ...diffState(before, after)],
})
