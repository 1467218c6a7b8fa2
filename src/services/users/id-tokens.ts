import { createRemoteJWKSet, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose'
import { ProblemError } from '../../problems.ts'

/** Who an ID token says a user is. */
export interface Claims {
  issuer: string
  subject: string
  /** Only an address that the issuer has verified. */
  email: string | null
}

export interface IdTokens {
  /** Throws `unauthenticated` for a token that proves nothing, `overloaded` while the issuer cannot be asked. */
  verify(idToken: string, nonce?: string): Promise<Claims>
}

/** Signatures with a public key only: an HMAC key would be shared, and `none` proves nothing. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']
const CLOCK_TOLERANCE_S = 60
const ISSUER_MS = 5_000
const KEYS_COOLDOWN_MS = 2_000
const REFUSED = /^ERR_(JWT|JWS)_|^ERR_JOSE_(ALG_NOT_ALLOWED|NOT_SUPPORTED)$|^ERR_JWKS_(NO|MULTIPLE)_MATCHING/

/** Verifies ID tokens of one issuer (OpenID Connect Core §3.1.3.7). Its keys are fetched when first needed, and again for a key that is new. */
export function createIdTokens({ issuer, audience }: { issuer: string; audience: string }): IdTokens {
  let discovery: Promise<JWTVerifyGetKey> | null = null

  const keys = () => {
    discovery ??= discover(issuer).catch(error => {
      discovery = null
      throw error
    })
    return discovery
  }

  return {
    async verify(idToken, nonce) {
      try {
        const { payload } = await jwtVerify(idToken, await keys(), {
          issuer,
          audience,
          algorithms: ALGORITHMS,
          clockTolerance: CLOCK_TOLERANCE_S,
          requiredClaims: ['exp', 'iat', 'sub'],
        })
        return claimsOf(payload, issuer, audience, nonce)
      } catch (error) {
        if (error instanceof ProblemError) throw error
        if (REFUSED.test((error as { code?: string }).code ?? '')) throw refused(error)
        throw new ProblemError('overloaded', 'The identity provider does not answer. Try again soon.', {
          retryAfterMs: ISSUER_MS,
          cause: error,
        })
      }
    },
  }
}

function claimsOf(payload: JWTPayload, issuer: string, audience: string, nonce: string | undefined): Claims {
  const { sub = '', aud, azp, email, email_verified: verified } = payload
  if (nonce !== undefined && payload.nonce !== nonce) throw refused()
  // A token for several parties was asked for by one of them.
  if ((Array.isArray(aud) && aud.length > 1 && azp === undefined) || (azp !== undefined && azp !== audience))
    throw refused()
  if (typeof sub !== 'string' || sub.length === 0 || sub.length > 255 || !isPlain(sub)) throw refused()
  const isKnown = verified === true && typeof email === 'string' && email.length <= 320 && isPlain(email)
  return { issuer, subject: sub, email: isKnown ? email : null }
}

const isPlain = (text: string) => text.isWellFormed() && !/\p{Cc}/u.test(text)

/** One answer for all that can be wrong: whoever tries tokens out learns nothing. */
const refused = (cause?: unknown) =>
  new ProblemError('unauthenticated', 'The ID token is not valid here.', { cause })

/** OpenID Connect Discovery §4: the document of the issuer, which must be that issuer's. */
async function discover(issuer: string): Promise<JWTVerifyGetKey> {
  const address = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
  const answer = await fetch(address, { redirect: 'error', signal: AbortSignal.timeout(ISSUER_MS) })
  if (!answer.ok) throw new Error(`The issuer answered ${answer.status}`)
  const { issuer: named, jwks_uri: uri } = (await answer.json()) as Record<string, unknown>
  if (named !== issuer) throw new Error('The issuer’s document is about another issuer')
  const keys = URL.parse(String(uri))
  if (!keys || keys.protocol !== new URL(issuer).protocol)
    throw new Error('The issuer keeps its keys at an address that is not as safe as its own')
  return createRemoteJWKSet(keys, { timeoutDuration: ISSUER_MS, cooldownDuration: KEYS_COOLDOWN_MS })
}
