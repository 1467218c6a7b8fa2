/** What the parts of the story share: where the gateway is, how much time there is, and the count for the last line. */
import type { Entry, Track } from './api.ts'
import { type Client, createClient } from './client.ts'
import type { Live } from './live.ts'
import type { Terminal } from './terminal.ts'
import type { Position, View } from './view.ts'

/** All that the client keeps while it is away. */
export interface Memory {
  userId: string
  token: string
  projectId: string
  renderId: string
  position: Position
}

export type Story = ReturnType<typeof createStory>

export function createStory(options: { url: string; signal: AbortSignal; terminal: Terminal }) {
  const { url, signal, terminal } = options
  /** The storyteller's own count: the client in the story does not look at it. */
  const tally = { edits: 0, silent: 0, renders: 0, reconnects: 0, bytes: 0, entries: [] as Entry[] }
  let current = 'reading the arguments'

  return {
    ...options,
    tally,
    begin(name: string) {
      current = name
      terminal.step(name)
    },
    step: () => current,
    connect(token?: string): Client {
      return createClient({
        url,
        signal,
        onWait: reason => terminal.progress(reason),
        ...(token ? { token } : {}),
      })
    },
    see(view: View, entry: Entry): Entry {
      tally.entries.push(view.take(entry))
      return entry
    },
  }
}

/** Takes live entries up to and with the first one for which `found` gives something. */
export async function watch<T>(
  story: Story,
  live: Live,
  view: View,
  found: (entry: Entry) => T | null,
): Promise<T> {
  for (;;) {
    const result = found(story.see(view, await live.next()))
    if (result !== null) return result
  }
}

export function expect(truth: unknown, otherwise: string): asserts truth {
  if (!truth) throw new Error(otherwise)
}

export interface Timeline {
  revision: number
  tracks: Track[]
}
