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
