import { applyPatch } from 'rfc6902'
import type { Test } from 'tap'
import { aguiFaults } from './agui.ts'
import type { Client, Json } from './client.ts'

/** Checks that a run's entries are a legal AG-UI stream whose patches lead to the project's timeline. */
export async function checkRun(t: Test, client: Client, projectId: string, runId: string): Promise<Json[]> {
  const entries = (await client.log(projectId)).filter(entry => entry.runId === runId)
  const chunks = entries.map(entry => entry.chunk)
  const types = chunks.map(chunk => chunk.type)
  for (const fault of await aguiFaults(chunks)) t.fail(fault)
  t.equal(types[0], 'RUN_STARTED', 'the run begins with RUN_STARTED')
  t.match(types.at(-1), /^RUN_(FINISHED|ERROR)$/, 'and ends')
  t.equal(types.filter(type => /^RUN_(FINISHED|ERROR)$/.test(type)).length, 1, 'once')
  t.strictSame(openMessages(chunks), [], 'every message is closed')

  const snapshot = chunks.find(chunk => chunk.type === 'STATE_SNAPSHOT')?.snapshot
  if (snapshot) {
    for (const { delta } of chunks.filter(chunk => chunk.type === 'STATE_DELTA'))
      t.strictSame(
        applyPatch(snapshot, delta),
        delta.map(() => null),
        'the patch applies',
      )
    // What a stopped run still changes comes after it, as project.updated.
    if (chunks.at(-1).outcome?.type === 'cancelled') return chunks
    const { tracks, revision } = await client.get(`/v1/projects/${projectId}/timeline`)
    t.strictSame(snapshot.timeline.tracks, tracks, 'the copy is the timeline')
    t.equal(snapshot.revision, revision)
  }
  return chunks
}

function openMessages(chunks: Json[]): string[] {
  const open = new Set<string>()
  for (const chunk of chunks) {
    if (chunk.type === 'TEXT_MESSAGE_START') open.add(chunk.messageId)
    if (chunk.type === 'TEXT_MESSAGE_CONTENT' && !open.has(chunk.messageId))
      return ['content without a start']
    if (chunk.type === 'TEXT_MESSAGE_END') open.delete(chunk.messageId)
  }
  return [...open]
}
