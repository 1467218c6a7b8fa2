import type { TokenKey } from '../../config.ts'
import type { Db } from '../../db/client.ts'
import { countSealed, replaceSeal, sealedOtherwise } from '../../db/seals.ts'
import { createTokenVault, VaultError } from './token-vault.ts'

const BATCH = 100

export interface KeyStatus {
  id: string
  use: 'seals' | 'opens' | 'missing'
  tokens: number
}

/** Every configured key in its order, then those that are missing but still seal tokens. */
export async function keyStatus(db: Db, keys: TokenKey[]): Promise<KeyStatus[]> {
  const sealed = await countSealed(db)
  const known = keys.map(({ id }, i): KeyStatus => {
    return { id, use: i === 0 ? 'seals' : 'opens', tokens: sealed.get(id) ?? 0 }
  })
  for (const { id } of keys) sealed.delete(id)
  return [...known, ...[...sealed].map(([id, tokens]): KeyStatus => ({ id, use: 'missing', tokens }))]
}

export interface Rotated {
  resealed: number
  /** Renewed by a gateway meanwhile: nothing was left to do. */
  overtaken: number
  /** Whose tokens do not open; their rows are as they were. */
  unopened: { userId: string; error: VaultError }[]
}

/**
 * Seals again, with the first key, whatever another one sealed, while gateways go on. Each row is changed by itself
 * and only from what was read, so it may be ended anywhere, begun again and run twice at once.
 */
export async function rotate(
  db: Db,
  keys: TokenKey[],
  onBatch: (done: Rotated) => void = () => {},
): Promise<Rotated> {
  const vault = createTokenVault(keys)
  const done: Rotated = { resealed: 0, overtaken: 0, unopened: [] }
  for (let after: string | undefined; ; ) {
    const batch = await sealedOtherwise(db, keys[0]!.id, after, BATCH)
    for (const row of batch)
      try {
        const sealed = vault.seal(vault.open(row.sealedToken, row.userId), row.userId)
        if (await replaceSeal(db, row, sealed)) done.resealed++
        else done.overtaken++
      } catch (error) {
        if (!(error instanceof VaultError)) throw error
        done.unopened.push({ userId: row.userId, error })
      }
    if (batch.length > 0) onBatch(done)
    if (batch.length < BATCH) return done
    after = batch.at(-1)!.id
  }
}
