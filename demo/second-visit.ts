/** The second half: the same guest comes back with what a client has stored, and with nothing else. */
import { writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Render } from './api.ts'
import { type Client, explain } from './client.ts'
import { expect, type Memory, type Story } from './story.ts'
import { kilobytes } from './terminal.ts'
import { createView, type View } from './view.ts'

const LOOK_EVERY_MS = 1_000

export async function secondVisit(story: Story, memory: Memory, savePath?: string): Promise<void> {
  const { terminal, tally } = story
  const { projectId, renderId } = memory
  const client = story.connect(memory.token)
  const view = createView(memory.position, terminal)

  story.begin('Come back as the same guest')
  const { user } = await client.get<{ user: { id: string } }>('/v1/me')
  expect(user.id === memory.userId, `the stored token now belongs to ${user.id}`)
  terminal.done(`guest ${user.id}`)

  story.begin('Read what happened meanwhile')
  const missed = await catchUp(story, client, view, projectId)
  terminal.done(
    missed === 0
      ? 'nothing yet, the export goes on'
      : `${missed} ${missed === 1 ? 'event' : 'events'}, no gap`,
  )

  story.begin('Follow the export to its end')
  const render = await finished(story, client, view, memory)
  const ends = tally.entries.filter(
    ({ chunk }) =>
      chunk.type === 'CUSTOM' &&
      chunk.name === 'render.updated' &&
      chunk.value.id === renderId &&
      chunk.value.state === 'completed',
  )
  expect(ends.length === 1, `the log tells ${ends.length} times that the render is completed`)
  tally.renders++
  terminal.done(`render ${renderId} is completed`)

  story.begin('Download the file')
  expect(render.file, 'the render is completed and has no file')
  const bytes = await client.download(render.file.href)
  const box = Buffer.from(bytes.subarray(4, 8)).toString('latin1')
  expect(box === 'ftyp', `the file is no MP4: it has ${JSON.stringify(box)} at offset 4`)
  const announced = render.file.bytes ?? bytes.length
  expect(bytes.length === announced, `${announced} bytes were announced and ${bytes.length} came`)
  tally.bytes = bytes.length
  if (savePath) await writeFile(savePath, bytes)
  terminal.done(`an MP4 of ${kilobytes(bytes.length)}${savePath ? `, saved as ${savePath}` : ''}`)
}

/** Reads the log from where the view stands to its present end. @returns the number of entries */
async function catchUp(story: Story, client: Client, view: View, projectId: string): Promise<number> {
  let count = 0
  for await (const entry of client.events(projectId, view.position().cursor)) {
    story.see(view, entry)
    count++
  }
  return count
}

async function finished(story: Story, client: Client, view: View, memory: Memory): Promise<Render> {
  for (;;) {
    const render = await client.get<Render>(`/v1/renders/${memory.renderId}`)
    const { state, progress, problem } = render
    // State and announcement commit together: what the GET has seen, the log read after it tells.
    await catchUp(story, client, view, memory.projectId)
    if (state === 'completed') return render
    expect(state !== 'failed' && state !== 'cancelled', `it is ${state}: ${problem ? explain(problem) : ''}`)
    story.terminal.progress(`${state}, ${progress} %`)
    await sleep(LOOK_EVERY_MS, undefined, { signal: story.signal })
  }
}
