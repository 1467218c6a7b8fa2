import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { createTokenVault, VaultError } from '../../../src/services/accounts/token-vault.ts'

const key = (id: string) => ({ id, secret: randomBytes(32) })
const OLD = key('2025')
const NEW = key('2026')
const vault = createTokenVault([NEW, OLD])
const TOKEN = 'nmv_usr_canary'

t.test('what was sealed for a user opens for that user', async t => {
  const opensAgain = (token: string, userId: string) =>
    vault.open(vault.seal(token, userId), userId) === token
  t.doesNotThrow(() => fc.assert(fc.property(fc.string({ unit: 'grapheme' }), fc.uuid(), opensAgain)))
})

t.test('the same token is never sealed alike, and nothing of it shows', async t => {
  const sealed = Array.from({ length: 100 }, () => vault.seal(TOKEN, 'alice'))
  t.equal(new Set(sealed).size, 100)
  for (const one of sealed) {
    t.match(one, /^2026\.[\w-]{16}\.[\w-]+$/)
    t.notMatch(Buffer.from(one.split('.')[2]!, 'base64url').toString('latin1'), 'canary')
  }
})

t.test('another user’s does not open', async t => {
  t.throws(() => vault.open(vault.seal(TOKEN, 'alice'), 'bob'), VaultError)
})

t.test('a change anywhere is noticed', async t => {
  const sealed = vault.seal(TOKEN, 'alice')
  const [kid, nonce, body] = sealed.split('.') as [string, string, string]
  const flipped = (text: string, at: number) => {
    const bytes = Buffer.from(text, 'base64url')
    bytes[at]! ^= 1
    return bytes.toString('base64url')
  }
  const bodyBytes = Buffer.from(body, 'base64url').length
  const damaged = [
    ...Array.from({ length: 12 }, (_, i) => `${kid}.${flipped(nonce, i)}.${body}`),
    ...Array.from({ length: bodyBytes }, (_, i) => `${kid}.${nonce}.${flipped(body, i)}`),
    `${kid}.${nonce}.${Buffer.from(body, 'base64url').subarray(0, -1).toString('base64url')}`,
    `${kid}.${nonce}.${Buffer.from(body, 'base64url').subarray(-4).toString('base64url')}`,
    `${kid}.${nonce}.`,
    `${kid}..${body}`,
    `${OLD.id}.${nonce}.${body}`,
    `${kid}.${nonce}`,
    `${sealed}.`,
    `${sealed}.${body}`,
    kid,
    '',
  ]
  for (const one of damaged) {
    const error = t.throws(() => vault.open(one, 'alice'), VaultError, one) as unknown as Error
    t.notMatch(error.message, 'canary')
  }
})

t.test('keys are changed one by one', async t => {
  const before = createTokenVault([OLD])
  const sealed = before.seal(TOKEN, 'alice')
  t.equal(vault.open(sealed, 'alice'), TOKEN, 'the old key still opens')
  t.match(vault.seal(TOKEN, 'alice'), /^2026\./, 'the new one seals')
  const after = createTokenVault([NEW])
  t.throws(() => after.open(sealed, 'alice'), {
    name: 'VaultError',
    code: 'unknown_key',
    message: /"2025".*TOKEN_KEYS/,
  })
  const another = createTokenVault([{ ...NEW, id: OLD.id }])
  t.throws(() => another.open(sealed, 'alice'), { code: 'damaged' }, 'a key that only bears the name')
})
