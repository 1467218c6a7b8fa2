import type { RunRow } from '../../db/runs.ts'

/** A message as AG-UI (`content`) and TanStack AI (`parts`) read it. */
export interface TranscriptMessage {
  id: string
  role: 'user' | 'assistant'
  content: string
  parts: { type: 'text'; content: string }[]
  createdAt: string
}

/** What was said in these runs, newest run first as they are listed; the messages come oldest first. */
export function transcript(runs: readonly RunRow[]): TranscriptMessage[] {
  return runs.toReversed().flatMap(run => {
    const asked = message(run.id, 'user', run.text, run.createdAt)
    if (!run.reply) return [asked]
    return [asked, message(`${run.id}-reply`, 'assistant', run.reply, run.finishedAt ?? run.createdAt)]
  })
}

function message(id: string, role: TranscriptMessage['role'], content: string, at: Date): TranscriptMessage {
  return { id, role, content, parts: [{ type: 'text', content }], createdAt: at.toISOString() }
}
