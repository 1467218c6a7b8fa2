/** The first half: from signing in to leaving while the export is under way. */
import { openAsBlob } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { Project, Render, Run, Upload } from './api.ts'
import { type Client, explain } from './client.ts'
import { type Live, openLive } from './live.ts'
import { expect, type Memory, type Story, type Timeline, watch } from './story.ts'
import { kilobytes } from './terminal.ts'
import { createView, endOf, type View } from './view.ts'

interface Visit {
  story: Story
  client: Client
  live: Live
  view: View
  projectId: string
}

/** @returns what the client keeps, and the cursor from which it watched */
export async function firstVisit(story: Story): Promise<{ memory: Memory; from: string }> {
  const { terminal, url, signal } = story
  story.begin('Sign in as a guest')
  const guest = await story
    .connect()
    .post<{ user: { id: string }; token: string }>('/v1/auth/guest', { delivery: 'bearer' })
  const client = story.connect(guest.token)
  terminal.done(`guest ${guest.user.id}`)

  story.begin('Create a project')
  const { id: projectId } = await client.post<Project>('/v1/projects', {
    name: 'Urban Dreams',
    language: 'en',
  })
  const { cursor: from } = await client.get<Project>(`/v1/projects/${projectId}`)
  const view = createView({ cursor: from, seq: null }, terminal)
  const onReconnect = (reason: string) => {
    story.tally.reconnects++
    terminal.note(reason)
  }
  const live = openLive({ url, token: guest.token, projectId, after: from, signal, onReconnect })
  terminal.done(`project ${projectId}, watched live from here on`)

  try {
    const visit = { story, client, live, view, projectId }
    await upload(visit)
    await edit(visit, 'Add a title that says "Urban Dreams" for the first three seconds')
    await edit(visit, 'Add calm background music')
    const renderId = await exportInWords(visit)
    const memory = {
      userId: guest.user.id,
      token: guest.token,
      projectId,
      renderId,
      position: view.position(),
    }
    return { memory, from }
  } finally {
    await live.close()
  }
}

async function upload({ story, client, live, view, projectId }: Visit): Promise<void> {
  story.begin('Upload clip.mp4')
  const clip = await openAsBlob(new URL('./clip.mp4', import.meta.url), { type: 'video/mp4' })
  const sent = await client.upload(projectId, clip, 'clip.mp4')
  const { state, problem } = await watch(story, live, view, ({ chunk }): Upload | null => {
    if (chunk.type !== 'CUSTOM' || chunk.name !== 'upload.updated' || chunk.value.id !== sent.id) return null
    return ['ready', 'failed'].includes(chunk.value.state) ? chunk.value : null
  })
  expect(state === 'ready', `the upload failed: ${problem ? explain(problem) : 'no reason given'}`)
  story.terminal.done(`${kilobytes(clip.size)}, ready for editing`)
}

async function edit({ story, client, live, view, projectId }: Visit, text: string): Promise<void> {
  story.begin(`Ask: ${text}`)
  const { kind, run } = await client.post<{ kind: string; run: Run }>(`/v1/projects/${projectId}/messages`, {
    text,
  })
  expect(kind === 'run', `the sentence was taken for "${kind}", not for an edit`)

  let before: number | undefined
  let words = ''
  const { silent } = await watch(story, live, view, entry => {
    if (entry.runId !== run.id) return null
    if (entry.chunk.type === 'STATE_SNAPSHOT') before ??= entry.chunk.snapshot.revision
    if (entry.chunk.type === 'TEXT_MESSAGE_CONTENT') words += entry.chunk.delta
    return endOf(entry)
  })
  const { state } = await client.get<Run>(`/v1/runs/${run.id}`)
  const now = await client.get<Timeline>(`/v1/projects/${projectId}/timeline`)
  const copy = view.state()
  expect(state === 'completed', `the log says that the run has ended, its GET says "${state}"`)
  expect(words.trim(), 'the run ended without a word, not even a summary')
  expect(copy && copy.revision !== before, 'the run ended well, but the timeline did not change')
  expect(
    now.revision >= copy.revision,
    `the copy is at ${copy.revision}, the gateway behind at ${now.revision}`,
  )
  // A backend may go on adding after its answer; the same revision is the same timeline.
  const same = now.revision === copy.revision
  expect(!same || isDeepStrictEqual(copy.timeline?.tracks, now.tracks), 'the local copy is another timeline')

  story.tally.edits++
  if (silent) story.tally.silent++
  const who = silent ? 'the backend said nothing, the gateway summed it up' : 'the backend answered in words'
  story.terminal.done(`${who}; ${same ? 'local copy equal' : 'since then changed again'} (${now.revision})`)
}

async function exportInWords({ story, client, live, view, projectId }: Visit): Promise<string> {
  const text = 'export the video'
  story.begin(`Ask: ${text}`)
  const answer = await client.post<{ kind: string; render: Render }>(`/v1/projects/${projectId}/messages`, {
    text,
  })
  expect(answer.kind === 'render', `the sentence was taken for "${answer.kind}", not for an export`)
  const { id } = answer.render
  const { state, progress } = await watch(story, live, view, ({ chunk }): Render | null => {
    if (chunk.type !== 'CUSTOM' || chunk.name !== 'render.updated' || chunk.value.id !== id) return null
    return ['queued', 'submitting'].includes(chunk.value.state) ? null : chunk.value
  })
  story.terminal.done(`render ${id} is ${state}, ${progress} %`)
  return id
}
