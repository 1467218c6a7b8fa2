import type { Holder } from '../db/accounts.ts'
import type { Accounts, Caller } from './accounts/accounts.ts'
import type { UpstreamClient } from './upstream/client.ts'

/** Credits as clients see them. `frozen` is reserved by running work. */
export interface CreditsView {
  available: number
  frozen: number
  total: number
  links: { register?: string; topUp?: string }
}

export interface Credits {
  /** Asks the upstream; throws its failure as a problem in `language`. */
  read(caller: Caller, language: string): Promise<CreditsView>
}

/** What is left to spend (upstream-contract §2.6), and where to get more. */
export function createCredits({
  accounts,
  upstream,
}: {
  accounts: Accounts
  upstream: UpstreamClient
}): Credits {
  /** The way on that running out of credits would offer, so that both offer the same. */
  async function linksOf(holder: Holder, language: string): Promise<CreditsView['links']> {
    const exhausted = { kind: 'refused', code: 'credits_exhausted' } as const
    const { kind, url } = (await accounts.problem(exhausted, holder, language)).userState?.action ?? {}
    if (!url) return {}
    return kind === 'register' ? { register: url } : { topUp: url }
  }

  return {
    async read(caller, language) {
      const outcome = await accounts.call(caller, upstream.credits)
      const { available, frozen, total } = await accounts.valueOrThrow(outcome, caller, language)
      return { available, frozen, total, links: await linksOf(caller, language) }
    },
  }
}
