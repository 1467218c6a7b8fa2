import { randomUUIDv7 } from 'node:crypto'
import { lockProject, type ProjectStateRow } from '../../db/projects.ts'
import { findAliased, insertRun } from '../../db/runs.ts'
import { notFound } from '../../problems.ts'
import type { Caller } from '../accounts/accounts.ts'
import { type Chunk, custom } from '../events/event.ts'
import type { EventLog } from '../events/log.ts'
import type { Intent } from '../messages/intents.ts'
import type { DirectAnswer } from '../messages/messages.ts'
import { actionsFor } from '../narration/gui-phrases.ts'
import { ownMessage } from '../narration/narrator.ts'
import { toProject } from '../projects.ts'
import { runFinished, runStarted, runStateEntry } from '../runs/run.ts'
import { clientState } from '../timeline/client-state.ts'
import { languageOf, words } from '../words.ts'

const MEGABYTE = 1_000_000

/**
 * Writes an answer that needed no backend as a run that is done: an AG-UI client knows nothing but runs, and can
 * then resume and find this one like any other. Does nothing when the project has a run of that alias.
 */
export async function recordDirectRun(
  log: EventLog,
  caller: Caller,
  projectId: string,
  asked: { alias: string; text: string; intent: Exclude<Intent, 'chat'>; answer: DirectAnswer },
): Promise<void> {
  const { alias, text, intent, answer } = asked
  await log.transaction(async (tx, append) => {
    const project = await lockProject(tx, projectId)
    if (!project) throw notFound()
    if (await findAliased(tx, projectId, alias)) return
    const { reply, news } = told(answer, project)
    const now = new Date()
    const run = await insertRun(tx, {
      id: randomUUIDv7(),
      projectId,
      userId: caller.userId,
      platform: caller.platform,
      alias,
      acceptedSeq: project.lastSeq + 1,
      text,
      state: 'completed',
      outcome: 'answered',
      reply,
      createdAt: now,
      startedAt: now,
      finishedAt: now,
    })
    await append(projectId, [custom('message.accepted', { runId: run.id, text, intent }), runStateEntry(run)])
    await append(
      projectId,
      [runStarted(run), ...ownMessage(reply), ...news, runFinished(run, 'success')],
      run.id,
    )
  })
}

/** The answer in words, and as what a client can act on. */
function told(answer: DirectAnswer, project: ProjectStateRow): { reply: string; news: Chunk[] } {
  const language = languageOf(project.language)
  const { answers } = words[language]
  switch (answer.kind) {
    case 'render':
      return { reply: answers.export, news: [custom('render.updated', answer.render)] }
    case 'credits':
      return {
        reply: answers.credits(answer.credits.available),
        news: [custom('credits.changed', answer.credits)],
      }
    case 'timeline':
      return {
        reply: answer.timeline.summary,
        news: [
          { type: 'STATE_SNAPSHOT', snapshot: clientState(project) },
          custom('project.updated', toProject(project)),
        ],
      }
    case 'upload':
      return {
        reply: answers.upload(answer.accepts, Math.floor(answer.maxBytes / MEGABYTE)),
        news: [custom('actions', actionsFor(['upload'], project.id, language))],
      }
  }
}
