import type { ProjectRow } from '../../db/projects.ts'
import type { Caller } from '../accounts/accounts.ts'
import type { Credits, CreditsView } from '../credits.ts'
import { custom } from '../events/event.ts'
import type { EventLog } from '../events/log.ts'
import { holderOf, type Projects } from '../projects.ts'
import type { Render, Renders } from '../renders/renders.ts'
import type { Run } from '../runs/run.ts'
import type { Runs } from '../runs/runs.ts'
import type { Timelines, TimelineView } from '../timeline/timeline.ts'
import { ACCEPTED } from '../uploads/media-types.ts'
import { type Intent, intentOf } from './intents.ts'

/** The longest message, in characters. */
export const MAX_TEXT = 20_000

export interface Message {
  text: string
  intent: 'auto' | 'chat'
  whenBusy: 'queue' | 'reject'
  requestKey?: string
}

/** What a sentence came to. */
export type MessageAnswer =
  | { kind: 'run'; run: Run }
  | { kind: 'render'; render: Render }
  | { kind: 'credits'; credits: CreditsView }
  | { kind: 'timeline'; timeline: TimelineView }
  | { kind: 'upload'; accepts: string[]; maxBytes: number }

/** What comes of a sentence that is not for the backend's chat. */
export type DirectAnswer = Exclude<MessageAnswer, { kind: 'run' }>

export interface Messages {
  /** Decides what the sentence asks for and has it done (upstream-contract §6). */
  send(caller: Caller, projectId: string, message: Message): Promise<MessageAnswer>
  /** Has done what is no chat, and tells nobody. The same `requestKey` gives the same render. */
  answer(
    caller: Caller,
    project: Pick<ProjectRow, 'id' | 'language' | 'sessionId' | 'accountId'>,
    intent: Exclude<Intent, 'chat'>,
    requestKey?: string,
  ): Promise<DirectAnswer>
}

export function createMessages(options: {
  log: EventLog
  projects: Projects
  runs: Runs
  renders: Renders
  timelines: Timelines
  credits: Credits
  maxUploadBytes: number
}): Messages {
  const { log, projects, runs, renders, timelines, credits, maxUploadBytes } = options

  const answer: Messages['answer'] = async (caller, project, intent, requestKey) => {
    const { id, language } = project
    switch (intent) {
      case 'export':
        return {
          kind: 'render',
          render: await renders.create(caller, id, requestKey === undefined ? {} : { requestKey }),
        }
      case 'credits':
        return { kind: 'credits', credits: await credits.read(holderOf(project, caller), language) }
      case 'status':
        return { kind: 'timeline', timeline: await timelines.view(caller.userId, id, caller.platform) }
      case 'upload':
        return { kind: 'upload', accepts: [...ACCEPTED], maxBytes: maxUploadBytes }
    }
  }

  return {
    answer,

    async send(caller, projectId, { text, intent, whenBusy, requestKey }) {
      const project = await projects.own(caller.userId, projectId)
      const asked = intent === 'chat' ? 'chat' : intentOf(text)
      if (asked === 'chat') {
        const key = requestKey === undefined ? {} : { requestKey }
        return { kind: 'run', run: await runs.start(caller, projectId, { text, whenBusy, ...key }) }
      }
      const direct = await answer(caller, project, asked, requestKey)
      await log.transaction((_, append) =>
        append(projectId, [custom('message.accepted', { runId: null, text, intent: asked })]),
      )
      return direct
    },
  }
}
