const MAX_READERS_PER_USER = 20

/** Counts each user's open readers on this instance, WebSockets and event streams alike. */
export interface Readers {
  /** Takes a place, or null when the user has too many. Give it back when the reader has gone. */
  enter(userId: string): { leave(): void } | null
}

export function createReaders(): Readers {
  const open = new Map<string, number>()
  return {
    enter(userId) {
      const count = open.get(userId) ?? 0
      if (count >= MAX_READERS_PER_USER) return null
      open.set(userId, count + 1)
      return {
        leave() {
          const left = (open.get(userId) ?? 1) - 1
          if (left > 0) open.set(userId, left)
          else open.delete(userId)
        },
      }
    },
  }
}
