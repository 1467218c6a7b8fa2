/** A small client of the gateway: JSON in and out, problems as errors, and only those retries that are safe. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Entry, Problem, Upload } from './api.ts'

interface Options {
  url: string
  token?: string
  /** Ends every call; the demo's whole time limit. */
  signal: AbortSignal
  onWait(reason: string): void
}

export type Client = ReturnType<typeof createClient>

const ANSWER_MS = 30_000
const PATIENCE_MS = 60_000

export function createClient({ url, token, signal, onWait }: Options) {
  async function send(method: string, path: string, init: RequestInit = {}, limitMs = ANSWER_MS) {
    const target = new URL(path, url)
    const headers = new Headers(init.headers)
    headers.set('x-client-app', 'demo/1.0')
    // `file.href` may lead to another host one day, and the token is none of its business.
    if (token && target.origin === new URL(url).origin) headers.set('authorization', `Bearer ${token}`)
    const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)])
    const response = await fetch(target, { ...init, method, headers, signal: limit })
    if (!response.ok) throw await refusal(`${method} ${target.pathname}`, response)
    return response
  }

  /** Tries again while the gateway is away or asks for it. Only for calls that may safely arrive twice. */
  async function persist<T>(call: string, attempt: () => Promise<T>): Promise<T> {
    const end = Date.now() + PATIENCE_MS
    for (let tries = 0; ; tries++) {
      try {
        return await attempt()
      } catch (error) {
        signal.throwIfAborted()
        const wait = pause(error, tries)
        if (wait === null || Date.now() + wait > end) throw named(call, error)
        onWait(`${named(call, error).message}; trying again`)
        await sleep(wait, undefined, { signal })
      }
    }
  }

  const get = <T>(path: string): Promise<T> =>
    persist(`GET ${path}`, async () => (await (await send('GET', path)).json()) as T)

  return {
    get,

    /** The key makes a second arrival of the same request harmless: the gateway answers what it answered before. */
    async post<T>(path: string, body: unknown): Promise<T> {
      const headers = { 'content-type': 'application/json', 'idempotency-key': crypto.randomUUID() }
      const init = { body: JSON.stringify(body), headers }
      return persist(`POST ${path}`, async () => (await (await send('POST', path, init)).json()) as T)
    },

    /** Sends one file. A body cannot be replayed, so after a cut it is first asked whether it arrived. */
    async upload(projectId: string, file: Blob, name: string): Promise<Upload> {
      const path = `/v1/projects/${projectId}/uploads`
      return persist(`POST ${path}`, async () => {
        const { items } = await get<{ items: Upload[] }>(path)
        const arrived = items.find(upload => upload.filename === name && upload.state === 'ready')
        if (arrived) return arrived
        const body = new FormData()
        body.append('file', file, name)
        const answer = (await (await send('POST', path, { body }, 600_000)).json()) as { items: Upload[] }
        return answer.items[0]!
      })
    },

    /** Reads the log after a cursor to its present end, page by page. */
    async *events(projectId: string, after: string): AsyncGenerator<Entry> {
      for (let cursor: string | null = after; cursor !== null; ) {
        const page: { items: Entry[]; next: string | null; recovered: boolean } = await get(
          `/v1/projects/${projectId}/events?limit=200&after=${encodeURIComponent(cursor)}`,
        )
        if (!page.recovered) throw new Error('the log cannot be continued from the stored cursor')
        yield* page.items
        cursor = page.next
      }
    },

    download: (href: string): Promise<Uint8Array> =>
      persist(`GET ${href}`, async () => (await send('GET', href, {}, 600_000)).bytes()),
  }
}

async function refusal(call: string, response: Response): Promise<Error> {
  const body = (await response.json().catch(() => ({}))) as Partial<Problem>
  const retryAfter = Number(response.headers.get('retry-after'))
  const problem: Problem = { title: response.statusText, code: 'unknown', ...body, status: response.status }
  if (retryAfter > 0) problem.retryAfterMs ??= retryAfter * 1000
  return new Error(`${call}: ${explain(problem)}`, { cause: problem })
}

export function explain({ status, code, title, detail, userState, requestId }: Problem): string {
  const words = [...new Set([title, detail, userState?.message])].filter(Boolean).join(' / ')
  return `${status} ${code}: ${words}${requestId ? ` (request ${requestId})` : ''}`
}

const AGAIN = new Set(['idempotency_in_progress', 'upload_interrupted'])

/** How long to wait before the next attempt in ms, or null when another attempt would not help. */
function pause(error: unknown, tries: number): number | null {
  const backOff = Math.min(250 * 2 ** tries, 5_000) * (0.5 + Math.random() / 2)
  const { cause, name } = error as Error
  const problem = cause as Partial<Problem> | undefined
  if (typeof problem?.status === 'number') {
    const again = [429, 502, 503, 504].includes(problem.status) || AGAIN.has(problem.code ?? '')
    return again ? (problem.retryAfterMs ?? backOff) : null
  }
  return error instanceof TypeError || name === 'TimeoutError' ? backOff : null
}

function named(call: string, error: unknown): Error {
  const { message, cause } = error as Error & { cause?: { code?: string } }
  if (message.includes(': ')) return error as Error
  return new Error(`${call}: ${message}${cause?.code ? ` (${cause.code})` : ''}`, { cause })
}
