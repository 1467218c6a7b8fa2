import { randomBytes, randomUUID } from 'node:crypto'
import type { Fault } from './fault.ts'

/** Writes the frames of one run as ADK does: LF framing, one JSON line each, no id, no event, no end marker. */
export interface FrameWriter {
  /** a word of an answer, or with `partial: false` the whole */
  text(text: string, options: { partial: boolean; thought?: string }): string
  toolCall(id: string, name: string, args: unknown): string
  /** `delta`: JSON text of the state's change */
  toolResult(id: string, name: string, delta: string, silent: boolean): string
  error(spelling: 'code' | 'error' | 'details' | 'raw', code: string, message: string): string
}

const usage = { promptTokenCount: 120, candidatesTokenCount: 24, totalTokenCount: 144 }
const noActions = {
  stateDelta: {},
  artifactDelta: {},
  requestedAuthConfigs: {},
  requestedToolConfirmations: {},
}

export function createFrameWriter(): FrameWriter {
  const invocationId = `e-${randomUUID()}`
  const frame = (content: object | null, more: object = {}) =>
    data(
      JSON.stringify({
        invocationId,
        author: 'nemo_agent',
        id: randomBytes(6).toString('base64url'),
        actions: noActions,
        longRunningToolIds: [],
        timestamp: Date.now(),
        ...(content && { content }),
        ...more,
      }),
    )
  return {
    text(text, { partial, thought }) {
      const parts = [...(thought ? [{ text: thought, thought: true }] : []), ...(text ? [{ text }] : [])]
      return frame(
        { role: 'model', parts },
        partial ? { partial } : { finishReason: 'STOP', usageMetadata: usage },
      )
    },
    toolCall(id, name, args) {
      return frame({ role: 'model', parts: [{ functionCall: { name, args, id } }] })
    },
    toolResult(id, name, delta, silent) {
      const actions = { ...noActions, stateDelta: '\u0000', ...(silent && { skipSummarization: true }) }
      const content = { role: 'user', parts: [{ functionResponse: { id, name, response: { ok: true } } }] }
      // The change holds the draft, whose text must not be written anew.
      return frame(content, { actions }).replace('"\\u0000"', () => delta)
    },
    error(spelling, code, message) {
      if (spelling === 'code') return frame(null, { errorCode: code, errorMessage: message })
      if (spelling === 'raw') return `data: {"error": "${message} "boom"\nline two"}\n\n`
      return data(
        JSON.stringify(
          spelling === 'error' ? { error: message } : { error: message, error_details: { code } },
        ),
      )
    },
  }
}

export function data(line: string) {
  return `data: ${line}\n\n`
}

/** Heartbeats come in both forms (§4). */
export function heartbeat(count: number) {
  return count % 2 === 0 ? ': heartbeat\n\n' : 'data:\n\n'
}

export function isHeartbeat(chunk: string) {
  return chunk.startsWith(':') || chunk === 'data:\n\n'
}

/** The same chunk in another legal framing, shape or with an id that repeats. */
export function disguise(chunk: string, fault: Fault | null): string {
  if (fault?.answer === 'framing') {
    const ends = { crlf: '\r\n', cr: '\r', bom: '\n' }
    return chunk.replaceAll('\n', ends[fault.framing])
  }
  if (isHeartbeat(chunk)) return chunk
  if (fault?.answer === 'repeat_ids') return chunk.replace(/"id":"[\w-]{8}"/, '"id":"same-one"')
  if (fault?.answer === 'shape') return reshape(chunk, fault.shape)
  return chunk
}

function reshape(chunk: string, shape: 'typed' | 'bare'): string {
  const event = JSON.parse(chunk.slice('data: '.length))
  const part = event.content?.parts?.find((one: { thought?: boolean }) => !one.thought) ?? {}
  if (part.text !== undefined) {
    return data(JSON.stringify(shape === 'bare' ? { text: part.text } : { type: 'text', content: part.text }))
  }
  if (shape === 'bare') return ''
  const [type, call] = part.functionCall
    ? ['tool_call', part.functionCall]
    : ['tool_result', part.functionResponse]
  return call ? data(JSON.stringify({ type, content: call.name })) : ''
}

/** Words with the blank that follows them; Chinese in pairs of characters. */
export function words(text: string): string[] {
  return text.match(/\p{Script=Han}{1,2}|[^\s\p{Script=Han}]+\s*|\s+/gu) ?? []
}
