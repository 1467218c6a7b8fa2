import { readFile } from 'node:fs/promises'
import type { Test } from 'tap'
import { WebSocket } from 'ws'

const CLIP = new URL('../../demo/clip.mp4', import.meta.url)

// biome-ignore lint/suspicious/noExplicitAny: a test reads answers as a client does, without types of ours
export type Json = any

/** A signed-in client app. */
export type Client = Awaited<ReturnType<typeof signIn>>

/** Signs in as a new guest. */
export async function signIn(url: string) {
  const response = await fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"delivery":"bearer"}',
  })
  const { token, user } = (await response.json()) as Json
  return asUser(url, token, user.id)
}

/** The same user at another instance. */
export function asUser(url: string, token: string, userId: string) {
  async function call(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Json> {
    const response = await fetch(url + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const text = await response.text()
    const answer = text === '' ? {} : JSON.parse(text)
    return Object.defineProperty(answer, 'http', { value: response, enumerable: false })
  }

  return {
    url,
    token,
    userId,
    get: (path: string) => call('GET', path),
    post: (path: string, body?: object, headers?: Record<string, string>) =>
      call('POST', path, body, headers),
    put: (path: string, body: object) => call('PUT', path, body),
    remove: (path: string) => call('DELETE', path),
    at: (other: string) => asUser(other, token, userId),
    async project(): Promise<string> {
      return (await call('POST', '/v1/projects', {})).id
    },
    /** A project with the demo's clip on its timeline. */
    async projectWithClip(): Promise<string> {
      const { id } = await call('POST', '/v1/projects', {})
      const form = new FormData()
      form.append('file', new Blob([await readFile(CLIP)], { type: 'video/mp4' }), 'clip.mp4')
      const headers = { authorization: `Bearer ${token}` }
      const response = await fetch(`${url}/v1/projects/${id}/uploads`, {
        method: 'POST',
        headers,
        body: form,
      })
      if (response.status !== 201) throw new Error(`The upload was refused: ${await response.text()}`)
      return id
    },
    async log(projectId: string): Promise<Json[]> {
      const entries: Json[] = []
      for (let after = ''; ; ) {
        const page = await call(
          'GET',
          `/v1/projects/${projectId}/events?limit=200${after && `&after=${after}`}`,
        )
        entries.push(...page.items)
        if (!page.next) return entries
        after = page.next
      }
    },
  }
}

/** A live socket that collects what it gets. */
export interface Live {
  entries: Json[]
  /** Resolves to the first entry, past or to come, that satisfies `wanted`. */
  next(wanted: (entry: Json) => boolean): Promise<Json>
  closed: Promise<{ code: number; reason: string }>
  close(): void
}

/** Opens a live socket and subscribes; resolves once the subscription stands. */
export async function follow(t: Test, client: Client, projectId: string, after?: string): Promise<Live> {
  const socket = new WebSocket(`${client.url.replace('http', 'ws')}/v1/live`, 'reelgate.v1', {
    headers: { authorization: `Bearer ${client.token}` },
  })
  t.teardown(() => socket.terminate())
  const entries: Json[] = []
  const waiting = new Set<() => void>()
  const subscribed = Promise.withResolvers<void>()
  const closed = new Promise<{ code: number; reason: string }>(resolve => {
    socket.on('close', (code, reason) => resolve({ code, reason: String(reason) }))
  })
  socket.on('error', () => {})
  socket.on('open', () =>
    socket.send(JSON.stringify({ type: 'subscribe', projectId, ...(after ? { after } : {}) })),
  )
  socket.on('message', data => {
    const frame: Json = JSON.parse(String(data))
    if (frame.type === 'subscribed') return subscribed.resolve()
    if (frame.type === 'error') return subscribed.reject(new Error(frame.problem.detail))
    if (frame.type) return
    entries.push(frame)
    for (const check of waiting) check()
  })
  await Promise.race([
    subscribed.promise,
    closed.then(({ code }) => {
      throw new Error(`The socket closed with ${code}`)
    }),
  ])
  return {
    entries,
    closed,
    close: () => socket.close(),
    next: wanted =>
      new Promise(resolve => {
        const check = () => {
          const entry = entries.find(wanted)
          if (!entry) return
          waiting.delete(check)
          resolve(entry)
        }
        waiting.add(check)
        check()
      }),
  }
}

export const isCustom =
  (name: string, where: (value: Json) => boolean = () => true) =>
  (entry: Json) =>
    entry.chunk.type === 'CUSTOM' && entry.chunk.name === name && where(entry.chunk.value)

/** The run has ended, however it ended. */
export const runEnded = (runId: string) =>
  isCustom('run.state', run => run.id === runId && ['completed', 'failed', 'stopped'].includes(run.state))
