import { ProblemError } from '../../problems.ts'
import { MAX_TEXT } from '../messages/messages.ts'

/** What is read of an AG-UI `RunAgentInput`; clients send far more. */
export interface RunAgentInput {
  threadId: string
  runId: string
  messages: { role: string; content?: unknown }[]
  forwardedProps?: unknown
  protocolVersion?: unknown
}

/** The sentence, and how it is to be taken. Apps may say the latter in `forwardedProps`. */
export interface Asked {
  text: string
  intent: 'auto' | 'chat'
  whenBusy: 'queue' | 'reject'
}

/** What the newest message of the user says: the history before it is the backend's own. */
export function askedBy(input: RunAgentInput): Asked {
  const message = input.messages.findLast(({ role }) => role === 'user')
  if (!message) throw invalid('There is no message with the role "user".')
  // As the database keeps it, so that the same request is known again.
  const text = textOf(message.content).toWellFormed()
  if (text.trim() === '') throw invalid('The last user message has no text.')
  if (text.length > MAX_TEXT) throw invalid(`A message has at most ${MAX_TEXT} characters.`)
  return {
    text,
    intent: choice(input, 'intent', 'auto', 'chat'),
    whenBusy: choice(input, 'whenBusy', 'queue', 'reject'),
  }
}

/** Clients before AG-UI 1.0 do not name their version, and fail on what was added then. */
export const isCurrent = ({ protocolVersion }: Pick<RunAgentInput, 'protocolVersion'>) =>
  typeof protocolVersion === 'string' && protocolVersion !== ''

function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) throw invalid('The last user message has no text.')
  return content.map(textOfPart).join('\n')
}

function textOfPart(part: unknown): string {
  const { type, text } = (part ?? {}) as { type?: unknown; text?: unknown }
  if (type === 'text' && typeof text === 'string') return text
  throw invalid('A message holds text only. Files go to /v1/projects/{id}/uploads.')
}

/** The first of the words is what holds when the app says nothing. */
function choice<T extends string>({ forwardedProps }: RunAgentInput, name: string, ...words: T[]): T {
  const said = (forwardedProps as Record<string, unknown> | null | undefined)?.[name]
  if (said === undefined) return words[0]!
  if (words.includes(said as T)) return said as T
  throw invalid(`forwardedProps.${name} must be one of: ${words.join(', ')}.`)
}

const invalid = (detail: string) => new ProblemError('invalid_request', detail)
