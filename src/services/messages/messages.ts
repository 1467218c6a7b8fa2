import type { Caller } from '../accounts/accounts.ts'
import type { Credits, CreditsView } from '../credits.ts'
import { custom } from '../events/event.ts'
import type { EventLog } from '../events/log.ts'
import type { Projects } from '../projects.ts'
import type { Render, Renders } from '../renders/renders.ts'
import type { Run } from '../runs/run.ts'
import type { Runs } from '../runs/runs.ts'
import type { Timelines, TimelineView } from '../timeline/timeline.ts'
import { ACCEPTED } from '../uploads/media-types.ts'
import { intentOf } from './intents.ts'

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

export interface Messages {
  /** Decides what the sentence asks for and has it done (upstream-contract §6). */
  send(caller: Caller, projectId: string, message: Message): Promise<MessageAnswer>
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

  return {
    async send(caller, projectId, { text, intent, whenBusy, requestKey }) {
      const project = await projects.own(caller.userId, projectId)
      const asked = intent === 'chat' ? 'chat' : intentOf(text)
      const key = requestKey === undefined ? {} : { requestKey }
      if (asked === 'chat')
        return { kind: 'run', run: await runs.start(caller, projectId, { text, whenBusy, ...key }) }
      const answer = await answerOf(asked)
      await log.transaction((_, append) =>
        append(projectId, [custom('message.accepted', { runId: null, text, intent: asked })]),
      )
      return answer

      async function answerOf(intent: 'export' | 'credits' | 'status' | 'upload'): Promise<MessageAnswer> {
        switch (intent) {
          case 'export':
            return { kind: 'render', render: await renders.create(caller, projectId, key) }
          case 'credits':
            return { kind: 'credits', credits: await credits.read(caller, project.language) }
          case 'status':
            return {
              kind: 'timeline',
              timeline: await timelines.view(caller.userId, projectId, caller.platform),
            }
          case 'upload':
            return { kind: 'upload', accepts: [...ACCEPTED], maxBytes: maxUploadBytes }
        }
      }
    },
  }
}
