import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { TokenKey } from '../../config.ts'

const ALGORITHM = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** `unknown_key` mends itself when the key is configured again; what is `damaged` never opens. */
export class VaultError extends Error {
  override readonly name = 'VaultError'
  readonly code: 'unknown_key' | 'damaged'

  constructor(code: VaultError['code'], message: string) {
    super(message)
    this.code = code
  }
}

export interface TokenVault {
  seal(token: string, userId: string): string
  /** Throws VaultError rather than give a wrong or an empty token. */
  open(sealed: string, userId: string): string
}

/**
 * Seals upstream tokens before they touch the database: `kid.nonce.ciphertext+tag` in base64url. The owner's id is
 * authenticated with it, so a row copied to another user does not open. The first key seals, every key opens.
 */
export function createTokenVault(keys: TokenKey[]): TokenVault {
  const sealing = keys[0]!
  const byId = new Map(keys.map(key => [key.id, key.secret]))
  const owner = (userId: string, kid: string) => Buffer.from(`upstream_accounts|${userId}|token|${kid}`)

  return {
    seal(token, userId) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv(ALGORITHM, sealing.secret, nonce, { authTagLength: TAG_BYTES })
      cipher.setAAD(owner(userId, sealing.id))
      const body = Buffer.concat([cipher.update(token, 'utf8'), cipher.final(), cipher.getAuthTag()])
      return `${sealing.id}.${nonce.toString('base64url')}.${body.toString('base64url')}`
    },

    open(sealed, userId) {
      const [kid = '', nonce = '', body = '', ...more] = sealed.split('.')
      const secret = byId.get(kid)
      if (!secret)
        throw new VaultError(
          'unknown_key',
          `No key "${kid.slice(0, 32)}" to open a token with; TOKEN_KEYS must keep it`,
        )
      const bytes = Buffer.from(body, 'base64url')
      const nonceBytes = Buffer.from(nonce, 'base64url')
      if (nonceBytes.length !== NONCE_BYTES || bytes.length < TAG_BYTES || more.length > 0)
        throw new VaultError('damaged', 'A sealed token is damaged')
      try {
        const decipher = createDecipheriv(ALGORITHM, secret, nonceBytes, { authTagLength: TAG_BYTES })
        decipher.setAAD(owner(userId, kid))
        decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
        return Buffer.concat([decipher.update(bytes.subarray(0, -TAG_BYTES)), decipher.final()]).toString(
          'utf8',
        )
      } catch {
        throw new VaultError('damaged', 'A sealed token is damaged or belongs to another user')
      }
    },
  }
}
