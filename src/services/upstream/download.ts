import { Readable } from 'node:stream'
import { pathId } from './checks.ts'
import { type Credential, type Endpoint, MAX_BODY_BYTES } from './endpoint.ts'
import { classify, type Failure, isJsonType, type Outcome, PROTOCOL } from './failures.ts'
import { deadline, discard, headerOf, type Reply, readAnswer, type Sent, send } from './transport.ts'
import { decodeFileUrl } from './wire.ts'

export interface RenderFile {
  status: 200 | 206 | 304 | 416
  mediaType: string
  bytes: number | null
  contentRange: string | null
  etag: string | null
  lastModified: string | null
  body: Readable
}

export interface FileRequest {
  id: string
  url: string | null
  range: string | null
  ifRange: string | null
  ifNoneMatch: string | null
  signal: AbortSignal
}

const MAX_REDIRECTS = 3
const TOTAL_MS = 6 * 60 * 60 * 1000

/**
 * Opens a finished file: its link first, then the endpoint of §2.9. The token goes to the endpoint only, never to a
 * link or along a redirect. `not_found` when the file is gone from both.
 */
export async function openFile(
  endpoint: Endpoint,
  credential: Credential,
  request: FileRequest,
): Promise<Outcome<RenderFile>> {
  const headers = endpoint.headers(credential)
  if (headers === null) return { kind: 'auth' }
  const ownPath = `/api/render/proxy/${pathId(request.id)}/download`
  const { signal, stop } = deadline(TOTAL_MS, request.signal)
  const wanted = conditionalHeaders(request)
  const outcome = await openAnywhere()
  if (outcome.kind === 'ok' && !outcome.value.body.closed) outcome.value.body.once('close', stop)
  else stop()
  return outcome

  async function openAnywhere(): Promise<Outcome<RenderFile>> {
    if (request.url !== null) {
      const opened = await follow(request.url, MAX_REDIRECTS)
      if (opened.kind === 'ok' || opened.kind === 'aborted') return opened
    }
    const sent = await endpoint.send('download', {
      path: ownPath,
      method: 'GET',
      headers: { ...headers, ...wanted },
      signal,
    })
    if (sent.kind !== 'reply') return sent
    const location = redirectOf(sent.reply)
    if (location !== null) {
      discard(sent.reply.body)
      const target = URL.parse(location, endpoint.origin)
      return target === null ? PROTOCOL : follow(target.href, MAX_REDIRECTS - 1)
    }
    if (!isJsonType(headerOf(sent.reply, 'content-type') ?? '')) return asFile(sent.reply)
    const read = await readAnswer(sent.reply, MAX_BODY_BYTES, signal)
    if (read.kind !== 'answer') return read
    const answer = classify(read.answer)
    if (answer.kind !== 'ok') return gone(answer)
    const url = decodeFileUrl(answer.value)
    return url === null ? PROTOCOL : follow(url, MAX_REDIRECTS)
  }

  async function follow(href: string, redirects: number): Promise<Outcome<RenderFile>> {
    const url = URL.parse(href)
    if (url === null || !/^https?:$/.test(url.protocol)) return PROTOCOL
    const sent: Sent = await send(endpoint.pools.download, {
      origin: url.origin,
      path: url.pathname + url.search,
      method: 'GET',
      headers: wanted,
      signal,
    })
    if (sent.kind !== 'reply') return sent
    const location = redirectOf(sent.reply)
    if (location === null) return asFile(sent.reply)
    discard(sent.reply.body)
    const next = URL.parse(location, url.href)
    return next === null || redirects === 0 ? PROTOCOL : follow(next.href, redirects - 1)
  }

  async function asFile(reply: Reply): Promise<Outcome<RenderFile>> {
    const status = reply.statusCode
    const mediaType = headerOf(reply, 'content-type') ?? 'application/octet-stream'
    if (status !== 200 && status !== 206 && status !== 304 && status !== 416) {
      const read = await readAnswer(reply, MAX_BODY_BYTES, signal)
      return read.kind === 'answer' ? gone(nonFile(classify(read.answer))) : read
    }
    // An error page under 200 must not become the user's video.
    if (/^\s*(text\/|application\/([\w.-]+\+)?(json|xml))/i.test(mediaType) && status < 300) {
      discard(reply.body)
      return PROTOCOL
    }
    const empty = status === 304 || status === 416
    // Whoever closes a body early makes undici emit an error; unheard it would end the process.
    reply.body.on('error', () => {})
    if (empty) discard(reply.body)
    const bytes = Number(headerOf(reply, 'content-length') ?? Number.NaN)
    return {
      kind: 'ok',
      value: {
        status,
        mediaType: /^[\w.+-]+\/[\w.+-]+/.exec(mediaType)?.[0] ?? 'application/octet-stream',
        bytes: Number.isSafeInteger(bytes) && bytes >= 0 && !empty ? bytes : null,
        contentRange: matching(headerOf(reply, 'content-range'), /^bytes (\d+-\d+|\*)\/(\d+|\*)$/),
        etag: matching(headerOf(reply, 'etag'), /^(W\/)?"[\x21\x23-\x7e]{0,200}"$/),
        lastModified: matching(headerOf(reply, 'last-modified'), /^[\w ,:+-]{1,64}$/),
        body: empty ? Readable.from([]) : reply.body,
      },
    }
  }
}

function conditionalHeaders(request: FileRequest): Record<string, string> {
  const range = matching(request.range, /^bytes=[\d, -]{1,200}$/)
  const ifRange = matching(request.ifRange, /^[\x20-\x7e]{1,256}$/)
  const ifNoneMatch = matching(request.ifNoneMatch, /^[\x20-\x7e]{1,1024}$/)
  return {
    ...(ifNoneMatch !== null && { 'if-none-match': ifNoneMatch }),
    ...(range !== null && { range }),
    ...(range !== null && ifRange !== null && { 'if-range': ifRange }),
  }
}

function matching(value: string | null, pattern: RegExp): string | null {
  return value !== null && pattern.test(value) ? value : null
}

function redirectOf(reply: Reply): string | null {
  return [301, 302, 303, 307, 308].includes(reply.statusCode) ? headerOf(reply, 'location') : null
}

function nonFile(outcome: Outcome<unknown>): Failure {
  return outcome.kind === 'ok' ? PROTOCOL : outcome
}

function gone(failure: Failure): Failure {
  return failure.kind === 'rejected' && (failure.status === 404 || failure.status === 410)
    ? { kind: 'not_found' }
    : failure
}
