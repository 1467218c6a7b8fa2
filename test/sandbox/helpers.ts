import type { Test } from 'tap'
import { createSandbox, type SandboxOptions } from '../../sandbox/server.ts'

export const attribution = {
  'x-skill-source': 'reelgate',
  'x-skill-version': '0.1.0',
  'x-skill-platform': 'web',
}

const quick = { textMs: 5, editMs: 10, generateMs: 20, renderMs: 20, chunkMs: 0, heartbeatMs: 1000 }

/** A sandbox that closes with the test. */
export async function startSandbox(t: Test, options: SandboxOptions = {}) {
  const sandbox = await createSandbox({ ...options, speed: { ...quick, ...options.speed } })
  t.teardown(() => sandbox.close())
  return sandbox
}

export type User = Awaited<ReturnType<typeof signIn>>

/** A client that speaks the contract, as one user with one session. */
export async function signIn(url: string, clientId = 'alice') {
  const minted = await mint(url, clientId)
  const { token, user_id: userId } = (await jsonOf(minted)).data
  return speaker(url, { token, userId })
}

export async function speaker(url: string, who: { token: string; userId: string }) {
  const headers = { ...attribution, authorization: `Bearer ${who.token}` }
  const get = (path: string, more = {}) => fetch(url + path, { headers: { ...headers, ...more } })
  const post = (path: string, body: string | object, more = {}) =>
    fetch(url + path, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json', ...more },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
  const created = await post('/api/tasks/me/with-session/nemo_agent', {
    task_name: 'project',
    language: 'en',
  })
  const { session_id: sessionId, task_id: taskId } = (await jsonOf(created)).data

  const run = (text: string, more: object = {}, headers = {}) =>
    post('/run_sse', { ...message(sessionId, text), ...more }, { accept: 'text/event-stream', ...headers })
  const state = async () => {
    const text = await (await get(`/api/state/nemo_agent/me/${sessionId}/latest`)).text()
    return { text, ...JSON.parse(text).data?.state }
  }
  const render = async (id: string, draft?: string) =>
    post(
      '/api/render/proxy/lambda',
      `{"id":"${id}","sessionId":"${sessionId}","draft":${draft ?? draftIn((await state()).text)},"output":{"format":"mp4","quality":"high"}}`,
    )
  return { ...who, headers, sessionId, taskId, get, post, run, state, render }
}

export function mint(url: string, clientId?: string, headers: Record<string, string> = attribution) {
  return fetch(`${url}/api/auth/anonymous-token`, {
    method: 'POST',
    headers: clientId === undefined ? headers : { ...headers, 'x-client-id': clientId },
  })
}

export function message(sessionId: string, text: string) {
  return { app_name: 'nemo_agent', user_id: 'me', session_id: sessionId, new_message: { parts: [{ text }] } }
}

/** The body of an answer, of any shape. */
export async function jsonOf(answer: Response) {
  return JSON.parse(await answer.text())
}

/** The draft's text as it stands in a state's answer. */
export function draftIn(state: string) {
  return state.slice(state.indexOf('"draft":') + '"draft":'.length, state.indexOf(',"video_infos"'))
}

/** The frames of a body, parsed; heartbeats are left out. */
export function framesOf(body: string) {
  return body
    .split('\n\n')
    .filter(chunk => chunk.startsWith('data: '))
    .map(chunk => JSON.parse(chunk.slice('data: '.length)))
}

/** What a reader would see: the whole texts, without thoughts. */
export function textOf(frames: ReturnType<typeof framesOf>, partial: boolean) {
  return frames
    .filter(frame => Boolean(frame.partial) === partial)
    .flatMap(frame => frame.content?.parts ?? [])
    .filter(part => part.text && !part.thought)
    .map(part => part.text)
    .join('')
}
