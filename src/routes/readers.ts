import type { ClientSession, Sessions } from '../services/users/sessions.ts'

/** Each user's open readers on this instance, WebSockets and event streams alike. */
export interface Readers {
  /**
   * Takes a place, or null when the user has too many. Give it back when the reader has gone. `signedOut` is called
   * when its session has ended, by hand or by time.
   */
  enter(session: ClientSession, signedOut: () => void): { leave(): void } | null
  count(): number
  closeSignedOut(sessions: Pick<Sessions, 'living'>): Promise<void>
}

interface Place {
  sessionId: string
  signedOut(): void
}

export function createReaders(maxPerUser = 20): Readers {
  const open = new Map<string, Set<Place>>()

  return {
    enter({ sessionId, user }, signedOut) {
      const places = open.get(user.id) ?? new Set()
      if (places.size >= maxPerUser) return null
      const place = { sessionId, signedOut }
      open.set(user.id, places.add(place))
      return {
        leave() {
          places.delete(place)
          if (places.size === 0 && open.get(user.id) === places) open.delete(user.id)
        },
      }
    },

    count: () => [...open.values()].reduce((sum, places) => sum + places.size, 0),

    async closeSignedOut(sessions) {
      const asked = [...open.values()].flatMap(places => [...places])
      if (asked.length === 0) return
      // Only those that were asked about: who comes meanwhile is not among the answers.
      const living = await sessions.living([...new Set(asked.map(({ sessionId }) => sessionId))])
      for (const place of asked) if (!living.has(place.sessionId)) place.signedOut()
    },
  }
}
