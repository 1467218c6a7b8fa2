import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../../config.ts'
import { updateRun } from '../../db/runs.ts'
import type { ProjectState } from '../upstream/client.ts'
import type { Outcome } from '../upstream/failures.ts'
import type { Endings, Said } from './endings.ts'
import { type Baseline, isPassing, type Work } from './work.ts'

const SETTLE_LIMIT_MS = 60_000
const READ_EVERY_MS = 2_000

/**
 * Ends a run that the user stopped. The upstream cannot be made to stop, so its state is read until it rests, and
 * the run ends as what became of it: `completed` when the edit was made all the same.
 */
export async function endStopped(
  work: Work,
  endings: Endings,
  said: Said,
  limits: Config['runs'],
): Promise<void> {
  const state = await readUntilRest(work, limits).catch(error => {
    if (isPassing(error)) throw error
    return null
  })
  const { fingerprint } = work.run.baseline as Baseline
  const edited = state !== null && state.fingerprint !== fingerprint && (await work.isReadable())
  return edited ? endings.completed(said, state) : endings.stopped(said)
}

/** After an error the upstream may still be editing: the next message waits until its state rests. */
export async function settle(work: Work, limits: Config['runs']): Promise<void> {
  if (work.run.settled) return
  const state = await readUntilRest(work, limits)
  work.run = await work.runLog.transaction(async (tx, append) => {
    if (state) await work.observe(tx, append, state)
    return updateRun(tx, work.run.id, { settled: true })
  })
}

/** Reads the state until two reads agree, at most a minute; the last one that could be read. */
async function readUntilRest(work: Work, limits: Config['runs']): Promise<ProjectState | null> {
  const everyMs = Math.min(READ_EVERY_MS, limits.reconcile.everyMs)
  let last: ProjectState | null = null
  for (const end = Date.now() + SETTLE_LIMIT_MS; Date.now() < end; ) {
    const state = await work.read()
    if (state.kind === 'ok') {
      if (state.value.fingerprint === last?.fingerprint) return last
      last = state.value
    }
    await sleep(everyMs, undefined, { signal: work.signals.handOver }).catch(() => {})
    work.throwIfHandedOver()
  }
  return last
}

/**
 * The state after an answer without words. What it changed may show a little later than its end
 * (upstream-contract §0.3), so a state that is still the old one is read again for a while.
 */
export async function readSilentEnd(work: Work, limits: Config['runs']): Promise<Outcome<ProjectState>> {
  const before = (work.run.baseline as Baseline).fingerprint
  const everyMs = Math.min(READ_EVERY_MS, limits.reconcile.everyMs)
  for (const end = Date.now() + limits.silentEndMs; ; ) {
    const state = await work.readPatiently()
    const left = end - Date.now()
    if (state.kind !== 'ok' || state.value.fingerprint !== before || left <= 0) return state
    if (work.signals.stop.aborted) return state
    await work.pause(Math.min(everyMs, left))
  }
}
