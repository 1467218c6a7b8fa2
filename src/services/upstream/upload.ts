import { randomUUID } from 'node:crypto'
import { pathId } from './checks.ts'
import { type Credential, decoded, type Endpoint, MAX_BODY_BYTES } from './endpoint.ts'
import { classify, type Outcome } from './failures.ts'
import { deadline, readAnswer } from './transport.ts'
import { decodeUpload, type Media } from './wire.ts'

const TOTAL_MS = 2 * 60 * 60 * 1000
const IDLE_MS = 60_000
const URLS_MS = 110_000

export interface FileUpload {
  sessionId: string
  filename: string
  mediaType: string
  body: AsyncIterable<Uint8Array>
  signal: AbortSignal
}

interface Progress {
  answered: boolean
  sourceFailed: boolean
}

/** §2.5, multipart: one file, streamed on as it comes. Fails when no byte moves for 60 s in either direction. */
export async function uploadFile(
  endpoint: Endpoint,
  credential: Credential,
  file: FileUpload,
): Promise<Outcome<{ media: Media[] }>> {
  const headers = endpoint.headers(credential)
  if (headers === null) return { kind: 'auth' }
  const path = uploadPath(file.sessionId)
  const boundary = `reelgate-${randomUUID()}`
  const stalled = new AbortController()
  const { signal, stop } = deadline(TOTAL_MS, AbortSignal.any([file.signal, stalled.signal]))
  const progress: Progress = { answered: false, sourceFailed: false }
  const onStall = () => {
    if (!progress.answered) stalled.abort()
  }
  const sent = await endpoint.send('upload', {
    path,
    method: 'POST',
    headers: {
      accept: 'application/json',
      'content-type': `multipart/form-data; boundary=${boundary}`,
      ...headers,
    },
    body: multipart(boundary, file, progress, onStall),
    signal,
  })
  try {
    if (sent.kind !== 'reply') {
      if (stalled.signal.aborted) return { kind: 'transient', delivered: 'unknown', cause: 'timeout' }
      // The file's own end broke, not the upstream's: that says nothing of the upstream.
      return progress.sourceFailed ? { kind: 'aborted' } : sent
    }
    progress.answered = true
    const read = await readAnswer(sent.reply, MAX_BODY_BYTES, signal)
    if (read.kind !== 'answer') return read
    const outcome = classify(read.answer)
    return outcome.kind === 'ok' ? mediaOf(outcome.value) : outcome
  } finally {
    stop()
  }
}

/** §2.5, by address. The upstream fetches the files before it answers, hence the longer limit. */
export async function uploadUrls(
  endpoint: Endpoint,
  credential: Credential,
  upload: { sessionId: string; urls: string[] },
): Promise<Outcome<{ media: Media[] }>> {
  const outcome = await endpoint.ask({
    pool: 'upload',
    path: uploadPath(upload.sessionId),
    headers: endpoint.headers(credential),
    body: JSON.stringify({ urls: upload.urls, source_type: 'url' }),
    ms: URLS_MS,
  })
  return outcome.kind === 'ok' ? mediaOf(outcome.value.json) : outcome
}

function uploadPath(sessionId: string): string {
  return `/api/upload-video/nemo_agent/me/${pathId(sessionId)}`
}

function mediaOf(json: Record<string, unknown>): Outcome<{ media: Media[] }> {
  const media = decodeUpload(json)
  return decoded(media === null ? null : { media })
}

async function* multipart(
  boundary: string,
  file: FileUpload,
  progress: Progress,
  onStall: () => void,
): AsyncGenerator<Uint8Array> {
  const type = /^[\w.+-]+\/[\w.+-]{1,100}$/.test(file.mediaType) ? file.mediaType : 'application/octet-stream'
  const disposition = `form-data; name="files"; filename="${quotedFilename(file.filename)}"`
  yield Buffer.from(`--${boundary}\r\ncontent-disposition: ${disposition}\r\ncontent-type: ${type}\r\n\r\n`)
  // Refreshed when undici asks for more, which it does once the socket took what it had.
  const timer = setTimeout(onStall, IDLE_MS).unref()
  try {
    for await (const chunk of file.body) {
      timer.refresh()
      yield chunk
      timer.refresh()
    }
  } catch (error) {
    progress.sourceFailed = true
    throw error
  } finally {
    clearTimeout(timer)
  }
  yield Buffer.from(`\r\n--${boundary}--\r\n`)
}

/** As browsers write it: a quote or a line break in a name would otherwise begin headers of its own. */
function quotedFilename(filename: string): string {
  const escaped: Record<string, string> = { '"': '%22', '\r': '%0D', '\n': '%0A', '\0': '' }
  return filename.toWellFormed().replace(/["\r\n\0]/g, character => escaped[character] ?? '')
}
