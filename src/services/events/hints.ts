import { type Listener, listen } from '../../db/listen.ts'

const CHANNEL = 'reelgate_events'
const HINT_EVERY_MS = 50
// NOTIFY refuses payloads of 8,000 bytes; a project's id and head take about 60.
const HINTS_PER_PAYLOAD = 100

export interface Hints {
  /** Tells the other instances that a project's log has grown, soon and together with what else has. */
  tell(projectId: string, seq: number): void
  close(): Promise<void>
}

/**
 * Announces heads between instances, on a connection of its own: NOTIFY within a hot transaction would make commits
 * wait for each other. What is lost on the way is found by the poll.
 */
export function createHints(
  url: string,
  on: {
    hint(projectId: string, seq: number): void
    /** The connection is new: whatever was announced in between is lost. */
    listening(): void
    error(error: unknown): void
  },
): Hints {
  const listener: Listener = listen(url, [CHANNEL], {
    notification(_, payload) {
      for (const [projectId, seq] of JSON.parse(payload) as [string, unknown][])
        if (Number.isSafeInteger(seq)) on.hint(projectId, seq as number)
    },
    listening: on.listening,
    error: on.error,
  })
  const pending = new Map<string, number>()
  let timer: NodeJS.Timeout | null = null

  function send() {
    timer = null
    const heads = [...pending]
    pending.clear()
    for (let i = 0; i < heads.length; i += HINTS_PER_PAYLOAD)
      listener.notify(CHANNEL, JSON.stringify(heads.slice(i, i + HINTS_PER_PAYLOAD)))
  }

  return {
    tell(projectId, seq) {
      // Commits of one project can be heard of in another order than they were made.
      pending.set(projectId, Math.max(seq, pending.get(projectId) ?? 0))
      timer ??= setTimeout(send, HINT_EVERY_MS)
    },
    async close() {
      if (timer) clearTimeout(timer)
      await listener.close()
    },
  }
}
