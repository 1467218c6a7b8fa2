import type { Config } from '../../config.ts'
import { crashPoint } from '../../crash-points.ts'
import { updateRun } from '../../db/runs.ts'
import type { Endings, Said } from './endings.ts'
import { runStateEntry } from './run.ts'
import { endStopped } from './settle.ts'
import type { Baseline, Work } from './work.ts'

/** What a read of the project's state says about a message whose answer was cut off (upstream-contract §2.4). */
export type Verdict = { kind: 'edited' } | { kind: 'unknown' } | { kind: 'wait'; unchangedReads: number }

/**
 * An edit has happened once the state differs from the one before the message and two reads agree, because the
 * upstream may still be adding to it. After `limit` reads that found nothing new, nobody can tell.
 */
export function judge(
  read: string,
  known: { baseline: string | null; lastRead: string | null; unchangedReads: number },
  limit: number,
): Verdict {
  if (read !== known.baseline)
    return read === known.lastRead ? { kind: 'edited' } : { kind: 'wait', unchangedReads: 0 }
  const unchangedReads = known.unchangedReads + 1
  return unchangedReads >= limit ? { kind: 'unknown' } : { kind: 'wait', unchangedReads }
}

/**
 * The answer was cut off. The message is not sent again: what became of it is read from the project's state. Each
 * read is written down, so whoever takes the run over goes on where this worker was.
 */
export async function reconcile(
  work: Work,
  endings: Endings,
  said: Said,
  limits: Config['runs'],
): Promise<void> {
  const { firstMs, everyMs, reads } = limits.reconcile
  await enter(work, said, firstMs)
  const giveUpAt = work.run.startedAt!.getTime() + limits.limitMs + firstMs + everyMs * (reads + 1)
  // From here on the row is what is known, also of what was said.
  const asSaid = (): Said => ({ last: [], reply: work.run.reply ?? '' })
  while (true) {
    // Not longer than a turn: the time was written by another instance, whose clock may be ahead.
    const wait = Math.min(work.run.nextReadAt!.getTime() - Date.now(), Math.max(firstMs, everyMs))
    await work.pause(Math.max(0, wait))
    if (work.signals.stop.aborted) return endStopped(work, endings, asSaid(), limits)
    const state = await work.read()
    crashPoint('run.after_reconcile_read')
    const nextReadAt = new Date(Date.now() + everyMs)
    if (state.kind !== 'ok') {
      if (Date.now() > giveUpAt) return endings.failed('outcome_unknown', asSaid())
      work.run = await work.runLog.transaction(tx => updateRun(tx, work.run.id, { nextReadAt }))
      continue
    }
    if (!(await work.isReadable())) return endings.failed('outcome_unknown', asSaid())
    const { fingerprint } = state.value
    const baseline = (work.run.baseline as Baseline).fingerprint
    const verdict = judge(fingerprint, { ...work.run, baseline }, reads)
    if (verdict.kind === 'edited') return endings.completed(asSaid(), state.value)
    if (verdict.kind === 'unknown') return endings.failed('outcome_unknown', asSaid())
    // A state that never stays the same must not keep the run from ending.
    if (Date.now() > giveUpAt && fingerprint !== baseline) return endings.completed(asSaid(), state.value)
    if (Date.now() > giveUpAt) return endings.failed('outcome_unknown', asSaid())
    work.run = await work.runLog.transaction(async (tx, append) => {
      await work.observe(tx, append, state.value)
      return updateRun(tx, work.run.id, {
        unchangedReads: verdict.unchangedReads,
        lastRead: fingerprint,
        nextReadAt,
      })
    })
  }
}

async function enter(work: Work, { last, reply }: Said, firstMs: number) {
  work.run = await work.runLog.transaction(async (tx, append) => {
    await append(work.run.projectId, last, work.run.id)
    if (work.run.state === 'reconciling') return work.run
    const row = await updateRun(tx, work.run.id, {
      state: 'reconciling',
      delivery: work.run.delivery === 'acknowledged' ? 'acknowledged' : 'unknown',
      nextReadAt: new Date(Date.now() + firstMs),
      ...(reply ? { reply } : {}),
    })
    await append(row.projectId, [runStateEntry(row)])
    return row
  })
}
