import { setTimeout as sleep } from 'node:timers/promises'
import { crashPoint } from '../../crash-points.ts'
import type { Db } from '../../db/client.ts'
import { nextDueInMs } from '../../db/render-claims.ts'
import { type Claim, type RenderRecord, StaleClaimError } from './record.ts'

const BATCH = 50
/** As many as the upstream client keeps connections for polls; more would wait there with their clocks running. */
const AT_ONCE = 128
const LONGEST_PAUSE_MS = 1_000
/** What comes due or ends within this time is seen to in one pass: under load, one claim serves many renders. */
const SHORTEST_PAUSE_MS = 20
const STOP_MS = 3_000

export interface Worker {
  /** One pass: takes every render that is due one step on and says how many those were. */
  advanceDue(): Promise<number>
  start(): void
  /** Claims no more, lets calls under way end for up to 3 s, and gives the rest back to other instances. */
  stop(): Promise<void>
  /** Something may be due: look now instead of at the end of the pause. */
  wake(): void
}

/** Follows renders. Any number of instances may run it on one database: what one has claimed, no other takes. */
export function createWorker(options: {
  db: Db
  record: RenderRecord
  advance: (claim: Claim) => Promise<void>
  onError: (error: unknown) => void
}): Worker {
  const { db, record, advance, onError } = options
  const underway = new Map<string, Promise<void>>()
  let pause = new AbortController()
  let gathering: NodeJS.Timeout | null = null
  let looping: Promise<void> | null = null
  let stopping = false

  async function claimBatch(): Promise<number> {
    const claims = await record.claim(Math.min(BATCH, AT_ONCE - underway.size))
    if (claims.length > 0) crashPoint('render.after_claim')
    for (const claim of claims) {
      const lease = claim.render.lease!
      const step = advance(claim)
        .catch(error => {
          // Whoever has it now goes on; everything else is tried again when the claim has run out.
          if (!(error instanceof StaleClaimError)) onError(error)
        })
        .finally(() => {
          underway.delete(lease)
          // A step that has ended says when the next one is due.
          gathering ??= setTimeout(wake, SHORTEST_PAUSE_MS).unref()
        })
      underway.set(lease, step)
    }
    return claims.length
  }

  async function loop(): Promise<void> {
    while (!stopping) {
      pause = new AbortController()
      try {
        const claimed = underway.size < AT_ONCE ? await claimBatch() : 0
        if (underway.size >= AT_ONCE) await Promise.race([...underway.values(), rest(null)])
        else if (claimed < BATCH) await rest(await nextDueInMs(db))
      } catch (error) {
        onError(error)
        await rest(null)
      }
    }
  }

  async function rest(dueInMs: number | null): Promise<void> {
    const ms = Math.max(SHORTEST_PAUSE_MS, Math.min(dueInMs ?? LONGEST_PAUSE_MS, LONGEST_PAUSE_MS))
    await sleep(ms, undefined, { signal: pause.signal }).catch(() => {})
  }

  function wake(): void {
    if (gathering) clearTimeout(gathering)
    gathering = null
    pause.abort()
  }

  return {
    wake,

    async advanceDue() {
      const claimed = await claimBatch()
      await Promise.all(underway.values())
      return claimed
    },

    start() {
      stopping = false
      looping ??= loop()
    },

    async stop() {
      stopping = true
      wake()
      await looping
      looping = null
      const patience = new AbortController()
      await Promise.race([
        Promise.all(underway.values()),
        sleep(STOP_MS, undefined, { signal: patience.signal }).catch(() => {}),
      ])
      patience.abort()
      if (gathering) clearTimeout(gathering)
      const unfinished = [...underway.keys()]
      underway.clear()
      // Without it they are taken over when the claims have run out.
      await record.abandon(unfinished).catch(onError)
    },
  }
}
