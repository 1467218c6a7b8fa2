import type { Pool } from 'pg'
import { RateLimiterMemory, RateLimiterPostgres, RateLimiterRes } from 'rate-limiter-flexible'
import { isDatabaseDown, ProblemError } from '../problems.ts'

/** What can be used up: `address` and `user` by every request, the others by what they are named after. */
export type Budget =
  | 'address'
  | 'user'
  | 'sockets'
  | 'tickets'
  | 'uploads'
  | 'guests'
  | 'sign-ins'
  | 'messages'
  | 'renders'

/** What is left of a budget, and for how long. */
export interface Standing {
  budget: Budget
  limit: number
  windowMs: number
  remaining: number
  resetMs: number
  refused: boolean
}

export interface Limits {
  /** Takes one from what `key` (a user's id or an address) has. Throws `overloaded` when nobody can tell. */
  take(budget: Budget, key: string): Promise<Standing>
}

interface Plan {
  limit: number
  seconds: number
  /** True: counted in Postgres, exactly and for all instances; a whole request dearer than in memory. */
  shared: boolean
}

const MINUTE = 60
const TABLE = 'rate_limits'

/** Every budget there is. They all follow from the two settings. */
function plans({ perMinute, guestsPerMinute }: LimitSettings): Record<Budget, Plan> {
  const share = (part: number) => Math.max(1, Math.round(perMinute * part))
  return {
    // Many people may share one address, but nobody needs all of an instance.
    address: { limit: share(10), seconds: MINUTE, shared: false },
    user: { limit: share(1), seconds: MINUTE, shared: false },
    sockets: { limit: share(1), seconds: MINUTE, shared: false },
    tickets: { limit: share(0.1), seconds: MINUTE, shared: false },
    uploads: { limit: share(0.1), seconds: MINUTE, shared: false },
    guests: { limit: guestsPerMinute, seconds: MINUTE, shared: true },
    'sign-ins': { limit: guestsPerMinute, seconds: MINUTE, shared: true },
    messages: { limit: share(0.1), seconds: MINUTE, shared: true },
    renders: { limit: share(0.05), seconds: MINUTE, shared: true },
  }
}

export interface LimitSettings {
  perMinute: number
  guestsPerMinute: number
}

/** Budgets in fixed windows: in memory for ordinary calls, in Postgres for what costs money or makes users. */
export function createLimits({ pool, ...settings }: LimitSettings & { pool: Pool }): Limits {
  const budgets = new Map(
    Object.entries(plans(settings)).map(([budget, plan]) => [
      budget,
      { ...plan, limiter: plan.shared ? inPostgres(pool, budget, plan) : inMemory(plan) },
    ]),
  )

  return {
    async take(budget, key) {
      const { limiter, limit, seconds } = budgets.get(budget)!
      const { result, refused } = await limiter.consume(key).then(
        result => ({ result, refused: false }),
        failure => ({ result: resultOf(failure), refused: true }),
      )
      return {
        budget,
        limit,
        windowMs: seconds * 1_000,
        remaining: result.remainingPoints,
        resetMs: result.msBeforeNext,
        refused,
      }
    },
  }
}

const inMemory = ({ limit, seconds }: Plan) => new RateLimiterMemory({ points: limit, duration: seconds })

const inPostgres = (pool: Pool, budget: string, { limit, seconds }: Plan) =>
  new RateLimiterPostgres({
    storeClient: pool,
    storeType: 'pool',
    tableName: TABLE,
    tableCreated: true,
    keyPrefix: budget,
    points: limit,
    duration: seconds,
    // Whoever has used up a budget costs the database nothing more.
    inMemoryBlockOnConsumed: limit,
  })

/** The limiter rejects with its result when a budget is used up, and with an error when it cannot count. */
function resultOf(failure: unknown): RateLimiterRes {
  if (failure instanceof RateLimiterRes) return failure
  // What is rationed is not given away uncounted.
  throw isDatabaseDown(failure)
    ? failure
    : new ProblemError('overloaded', undefined, { retryAfterMs: 2_000, cause: failure })
}
