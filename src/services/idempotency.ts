import { createHash } from 'node:crypto'
import type { Db } from '../db/client.ts'
import { claimKey, findKey, type RequestId, recordAnswer, releaseKey } from '../db/idempotency.ts'
import { ProblemError } from '../problems.ts'

export interface Answer {
  status: number
  headers: Record<string, string>
  body: string
}

export interface Idempotency {
  /**
   * Null: run the request. An answer: it ran before, give this one again. Throws `idempotency_mismatch` for another
   * body and `idempotency_in_progress` while the first request runs.
   */
  begin(request: RequestId, body: unknown): Promise<Answer | null>
  /** Keeps the answer for 24 h. Answers that say "not now" are not kept, so that trying again means something. */
  end(request: RequestId, answer: Answer): Promise<void>
}

const NOT_NOW = new Set([408, 409, 425, 429])

export function createIdempotency({ db }: { db: Db }): Idempotency {
  return {
    async begin(request, body) {
      const bodyHash = createHash('sha256')
        .update(JSON.stringify(body ?? null))
        .digest()
      if (await claimKey(db, request, bodyHash)) return null
      const known = await findKey(db, request)
      if (!known) return this.begin(request, body)
      if (!known.bodyHash.equals(bodyHash)) throw new ProblemError('idempotency_mismatch')
      if (known.status === null || known.body === null)
        throw new ProblemError('idempotency_in_progress', undefined, { retryAfterMs: 1_000 })
      return { status: known.status, headers: known.headers ?? {}, body: known.body }
    },

    async end(request, answer) {
      if (answer.status >= 500 || NOT_NOW.has(answer.status)) await releaseKey(db, request)
      else await recordAnswer(db, request, answer)
    },
  }
}
