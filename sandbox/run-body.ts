import { invalid, type Reply } from './http.ts'

export interface Wish {
  sessionId: string
  text: string
  streaming: boolean
}

/** What the body of POST /run_sse asks for, or the 422 that refuses it: one spelling, no unknown field (§2.4). */
export function readWish(body: Record<string, unknown> | null, bodyCase: 'snake' | 'camel'): Wish | Reply {
  const names =
    bodyCase === 'snake'
      ? { app: 'app_name', user: 'user_id', session: 'session_id', message: 'new_message' }
      : { app: 'appName', user: 'userId', session: 'sessionId', message: 'newMessage' }
  if (!body) return invalid('', 'JSON decode error')
  const known = [...Object.values(names), 'streaming']
  const stranger = Object.keys(body).find(key => !known.includes(key))
  if (stranger !== undefined) return invalid(stranger, 'Extra inputs are not permitted')
  if (body[names.app] !== 'nemo_agent') return invalid(names.app, 'Input should be nemo_agent')
  if (body[names.user] !== 'me') return invalid(names.user, 'Input should be me')
  const sessionId = body[names.session]
  if (typeof sessionId !== 'string') return invalid(names.session, 'Input should be a valid string')
  const streaming = body.streaming ?? false
  if (typeof streaming !== 'boolean') return invalid('streaming', 'Input should be a valid boolean')
  const text = textOf(body[names.message])
  if (!text) return invalid(names.message, 'Field required')
  return { sessionId, text, streaming }
}

/** The text of `{parts: [{text}]}`, null when it has another form. */
export function textOf(message: unknown): string | null {
  const parts = (message as { parts?: unknown } | null | undefined)?.parts
  if (!Array.isArray(parts) || parts.length === 0) return null
  if (!parts.every(part => typeof part?.text === 'string')) return null
  return parts.map(part => part.text).join('')
}
