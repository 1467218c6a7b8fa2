import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { toProblem } from '../problems.ts'

const STATUS: Record<string, [status: number, text: string, detail: string]> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'The headers are too large.'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'The request did not arrive in time.'],
}
const SILENT_MS = 50_000
const MALFORMED: [number, string, string] = [400, 'Bad Request', 'This is not HTTP as it should be.']

/** Answers bytes that are no request. They may have been meant to be read differently by a proxy: the connection ends. */
export function refuseMalformed(error: Error & { code?: string }, socket: Socket) {
  // Browsers and pools open connections ahead of need; one that is ended as it is first used costs them a request.
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && socket.bytesRead === 0) {
    setTimeout(() => socket.bytesRead === 0 && socket.destroy(), SILENT_MS).unref()
    return
  }
  const { _httpMessage: answer } = socket as Socket & { _httpMessage?: ServerResponse }
  // In the middle of another answer, ours would be read as part of it.
  if (error.code === 'ECONNRESET' || !socket.writable || answer?.headersSent) {
    socket.destroy()
    return
  }
  const [status, text, detail] = STATUS[error.code ?? ''] ?? MALFORMED
  const problem = toProblem(status === 408 ? 'request_timeout' : 'invalid_request', detail)
  const body = JSON.stringify({ ...problem, status, requestId: randomUUID() })
  socket.end(
    `HTTP/1.1 ${status} ${text}\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  )
}
