const ID = /^[A-Za-z0-9_-]{1,128}$/
const TOKEN = /^[\x21-\x7e]{1,4096}$/
const HEADER_VALUE = /^[\x20-\x7e]{1,1024}$/

export function isId(value: unknown): value is string {
  return typeof value === 'string' && ID.test(value)
}

/**
 * An id as a path segment. Ids come from the upstream or from a client app: one with `/`, `..` or `?` in it would
 * address another resource with the user's token. Throws without naming the value.
 */
export function pathId(id: string): string {
  if (!isId(id)) throw new TypeError('an upstream id has characters that no id has')
  return encodeURIComponent(id)
}

/** A token that can stand in a header. One with a line break in it could add headers of its own. */
export function isToken(token: string): boolean {
  return TOKEN.test(token)
}

/** A short word of ours for a header. Throws without naming the value. */
export function headerValue(value: string): string {
  if (!HEADER_VALUE.test(value)) throw new TypeError('a header value has characters that no header may have')
  return value
}

/** The platform as §1 allows it: a short word, else `unknown`. */
export function platformWord(platform: string): string {
  return /^[a-z0-9._-]{1,32}$/i.test(platform) ? platform.toLowerCase() : 'unknown'
}
