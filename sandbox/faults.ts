import { type Endpoint, endpoints, type Fault, places } from './fault.ts'
import type { World } from './state.ts'

export interface Faults {
  /** Throws a TypeError when there is no such endpoint or answer. */
  add(fault: Fault): void
  /** Forgets the faults that have not happened yet. */
  clear(): void
  list(): Fault[]
  /** The fault that this request meets, used up by it. */
  take(on: Endpoint, sessionId: string | undefined): Fault | null
  /** Kills tokens early: they answer 1001, and the same client id may mint again. */
  revokeToken(userId: string | 'all'): void
  /** Forgets sessions: they answer 1002 or "Session not found". */
  dropSession(sessionId: string | 'all'): void
}

/** The faults of one sandbox, kept in memory; what they do to `world` is saved. */
export function createFaults(deps: { world: World; save: () => void }): Faults {
  const { world, save } = deps
  let waiting: { fault: Fault; skip: number; times: number }[] = []
  return {
    add(fault) {
      if (!endpoints.includes(fault.on)) throw new TypeError(`no endpoint is called ${fault.on}`)
      if (!Object.hasOwn(places, fault.answer)) throw new TypeError(`no answer is called ${fault.answer}`)
      if (!places[fault.answer].includes(fault.on)) {
        throw new TypeError(`${fault.answer} is no answer of ${fault.on}`)
      }
      waiting.push({ fault, skip: fault.skip ?? 0, times: fault.times ?? 1 })
    },
    clear() {
      waiting = []
    },
    list: () => waiting.map(({ fault, skip, times }) => ({ ...fault, skip, times })),
    take(on, sessionId) {
      const found = waiting.find(
        ({ fault }) => fault.on === on && (fault.sessionId === undefined || fault.sessionId === sessionId),
      )
      if (!found) return null
      if (found.skip > 0) {
        found.skip -= 1
        return null
      }
      found.times -= 1
      if (found.times <= 0) waiting = waiting.filter(other => other !== found)
      return found.fault
    },
    revokeToken(userId) {
      for (const account of world.accounts) {
        if (userId === 'all' || account.userId === userId) account.revoked = true
      }
      save()
    },
    dropSession(sessionId) {
      if (sessionId === 'all') world.sessions = {}
      else delete world.sessions[sessionId]
      save()
    },
  }
}
