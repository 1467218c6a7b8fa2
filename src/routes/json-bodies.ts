import type { FastifyInstance } from 'fastify'
import { ProblemError } from '../problems.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** How many keys, and how many items of one array, a body of the route may have. */
    maxJsonKeys?: number
  }
}

const MAX_DEPTH = 32
const MAX_KEYS = 1_000
/** A string, and whether it is a key. Only for text that is JSON: elsewhere a string may have no end. */
const STRING = /"(?:[^"\\]|\\.)*"(\s*:)?/g

/** JSON is the one kind of body that is parsed here; a streamed one is its route's own. */
export function addJsonParser(app: FastifyInstance) {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, text, done) => {
    const charset = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(request.headers['content-type'] ?? '')?.[1]
    if (charset !== undefined && !/^utf-?8$/i.test(charset))
      return done(new ProblemError('invalid_request', 'JSON is sent in UTF-8.'))
    parse(request, text, (error, value) => {
      if (error) return done(error)
      const why = refusalOf(text, value, request.routeOptions.config.maxJsonKeys ?? MAX_KEYS)
      done(why === null ? null : new ProblemError('invalid_request', why), value)
    })
  })
}

/** Why a body that is JSON is refused all the same: what parsers, databases or encoders after us would stumble over. */
export function refusalOf(text: string, value: unknown, maxKeys = MAX_KEYS): string | null {
  let keys = 0

  function look(value: unknown, depth: number): string | null {
    if (typeof value === 'string')
      return value.isWellFormed() && !value.includes('\0')
        ? null
        : 'A text holds a character that cannot be kept.'
    if (typeof value === 'number')
      return Number.isFinite(value) ? null : 'A number is too large for any computer to agree on.'
    if (typeof value !== 'object' || value === null) return null
    if (depth === MAX_DEPTH) return `The body is nested more than ${MAX_DEPTH} levels deep.`
    if (Array.isArray(value)) {
      if (value.length > maxKeys) return `An array has more than ${maxKeys} items.`
      return firstOf(value, item => look(item, depth + 1))
    }
    const names = Object.keys(value)
    keys += names.length
    if (keys > maxKeys) return `The body has more than ${maxKeys} keys.`
    return firstOf(
      names,
      name => look(name, depth) ?? look((value as Record<string, unknown>)[name], depth + 1),
    )
  }

  return look(value, 0) ?? (keysIn(text) === keys ? null : 'An object has the same key twice.')
}

function firstOf<T>(items: T[], ask: (item: T) => string | null): string | null {
  for (const item of items) {
    const answer = ask(item)
    if (answer !== null) return answer
  }
  return null
}

function keysIn(text: string): number {
  let count = 0
  for (const [, colon] of text.matchAll(STRING)) if (colon !== undefined) count++
  return count
}
