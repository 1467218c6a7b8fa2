import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import type { Test } from 'tap'

export const AUDIENCE = 'reelgate-app'

/** An identity provider: it publishes one key at a time, and signs what a test wants. */
export async function startIssuer(t: Test) {
  let key = await newKey()
  let down = false
  let asked = 0
  const server = createServer((request, response) => {
    asked++
    const documents: Record<string, object> = {
      '/.well-known/openid-configuration': { issuer: url, jwks_uri: `${url}/keys` },
      '/keys': { keys: [key.jwk] },
    }
    response.statusCode = down ? 500 : 200
    response.end(JSON.stringify(documents[request.url!] ?? {}))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  return {
    url,
    env: { OIDC_ISSUER: url, OIDC_AUDIENCE: AUDIENCE },
    asked: () => asked,
    publicKey: () => key.jwk,
    fail: (value: boolean) => {
      down = value
    },
    async rotate() {
      key = await newKey()
    },
    /** A token that is right but for `claims`; one that is undefined is left out. */
    sign(claims: JWTPayload = {}, signing = key) {
      const now = Math.floor(Date.now() / 1_000)
      const payload = { iss: url, aud: AUDIENCE, sub: 'alice', iat: now, exp: now + 300, ...claims }
      return new SignJWT(payload)
        .setProtectedHeader({ alg: 'ES256', kid: signing.kid })
        .sign(signing.privateKey)
    },
  }
}

let keys = 0

export async function newKey() {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
  const kid = `key-${++keys}`
  return { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' } }
}
