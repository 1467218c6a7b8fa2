import { pathId } from './checks.ts'
import { type FileRequest, openFile, type RenderFile } from './download.ts'
import { type Credential, createEndpoint, decoded } from './endpoint.ts'
import { classifyRender, type Outcome } from './failures.ts'
import { field, type JsonObject } from './fields.ts'
import type { Meaning } from './frames.ts'
import { type RunOptions, run } from './run.ts'
import { type FileUpload, uploadFile, uploadUrls } from './upload.ts'
import {
  decodeClaim,
  decodeCredits,
  decodeMint,
  decodeRender,
  decodeSession,
  decodeState,
  type Media,
  type ProjectState,
  type RenderState,
} from './wire.ts'

export type { RenderFile } from './download.ts'
export type { Credential } from './endpoint.ts'
export type { Media, ProjectState, RenderState } from './wire.ts'

export interface Credits {
  available: number
  frozen: number
  total: number
}

export interface UpstreamClient {
  mintToken(a: {
    clientId: string
    platform: string
  }): Promise<Outcome<{ token: string; userId: string | null; expiresAt: Date | null }>>
  claimLink(
    c: Credential,
    a: { taskId: string; sessionId: string },
  ): Promise<Outcome<{ url: string; expiresInMs: number }>>
  createSession(
    c: Credential,
    a: { name: string; language: string },
  ): Promise<Outcome<{ taskId: string; sessionId: string; userId: string | null }>>
  /** Sends one message. Never retried in here. `ok` means 200 and an event stream; read `meanings` to its end. */
  run(
    c: Credential,
    a: { sessionId: string; text: string; signal: AbortSignal },
  ): Promise<Outcome<{ meanings: AsyncIterable<Meaning> }>>
  uploadFile(c: Credential, a: FileUpload): Promise<Outcome<{ media: Media[] }>>
  uploadUrls(c: Credential, a: { sessionId: string; urls: string[] }): Promise<Outcome<{ media: Media[] }>>
  credits(c: Credential): Promise<Outcome<Credits>>
  state(c: Credential, a: { sessionId: string }): Promise<Outcome<ProjectState>>
  /** `draft` is raw JSON text and goes out byte for byte. */
  submitRender(
    c: Credential,
    a: { id: string; sessionId: string; draft: string; format: string; quality: string },
  ): Promise<Outcome<RenderState>>
  render(c: Credential, a: { id: string }): Promise<Outcome<RenderState>>
  cancelRender(c: Credential, a: { id: string }): Promise<Outcome<null>>
  openFile(c: Credential, a: FileRequest): Promise<Outcome<RenderFile>>
  close(): Promise<void>
}

export interface UpstreamOptions extends RunOptions {
  apiUrl: string
  webUrl: string
  skillSource: string
  skillVersion: string
}

/**
 * The upstream, one method an endpoint (upstream-contract §2). No method retries, and none rejects for what the
 * upstream does; an id that could change the path is a TypeError.
 */
export function createUpstreamClient(options: UpstreamOptions): UpstreamClient {
  const endpoint = createEndpoint(options)
  const webUrl = options.webUrl.replace(/\/+$/, '')

  return {
    /** §2.1. Never sent twice in here: minting is rationed. */
    async mintToken({ clientId, platform }) {
      const outcome = await endpoint.ask({
        pool: 'once',
        path: '/api/auth/anonymous-token',
        headers: { 'x-client-id': pathId(clientId), ...endpoint.attribution(platform) },
        body: '',
      })
      return outcome.kind === 'ok' ? decoded(decodeMint(outcome.value.json)) : outcome
    },

    /** §2.2 */
    async claimLink(credential, { taskId, sessionId }) {
      const outcome = await endpoint.ask({
        pool: 'once',
        path: '/api/auth/claim-token',
        headers: endpoint.headers(credential),
        body: JSON.stringify({ task_id: taskId, session_id: sessionId }),
      })
      return outcome.kind === 'ok' ? decoded(decodeClaim(outcome.value.json, webUrl)) : outcome
    },

    /** §2.3 */
    async createSession(credential, { name, language }) {
      const outcome = await endpoint.ask({
        pool: 'once',
        path: '/api/tasks/me/with-session/nemo_agent',
        headers: endpoint.headers(credential),
        body: JSON.stringify({ task_name: name, language }),
      })
      return outcome.kind === 'ok' ? decoded(decodeSession(outcome.value.text)) : outcome
    },

    run: (credential, message) => run(endpoint, options, credential, message),
    uploadFile: (credential, file) => uploadFile(endpoint, credential, file),
    uploadUrls: (credential, upload) => uploadUrls(endpoint, credential, upload),

    /** §2.6 */
    async credits(credential) {
      const outcome = await endpoint.ask({
        pool: 'read',
        path: '/api/credits/balance/simple',
        headers: endpoint.headers(credential),
      })
      return outcome.kind === 'ok' ? decoded(decodeCredits(outcome.value.json)) : outcome
    },

    /** §2.7 */
    async state(credential, { sessionId }) {
      const outcome = await endpoint.ask({
        pool: 'read',
        path: `/api/state/nemo_agent/me/${pathId(sessionId)}/latest`,
        headers: endpoint.headers(credential),
      })
      return outcome.kind === 'ok' ? decoded(decodeState(outcome.value.json, outcome.value.text)) : outcome
    },

    /** §2.8 */
    async submitRender(credential, { id, sessionId, draft, format, quality }) {
      const outcome = await endpoint.ask({
        pool: 'once',
        path: '/api/render/proxy/lambda',
        headers: endpoint.headers(credential),
        body: renderBody({
          id: pathId(id),
          sessionId: pathId(sessionId),
          draft,
          output: { format, quality },
        }),
        classify: answer => classifyRender(answer, 'submit'),
      })
      return outcome.kind === 'ok' ? decoded(decodeSubmitted(outcome.value.json)) : outcome
    },

    /** §2.8 */
    async render(credential, { id }) {
      const outcome = await endpoint.ask({
        pool: 'read',
        path: `/api/render/proxy/lambda/${pathId(id)}`,
        headers: endpoint.headers(credential),
        classify: answer => classifyRender(answer, 'read'),
      })
      return outcome.kind === 'ok' ? decoded(decodeRender(outcome.value.json)) : outcome
    },

    /** §2.8, mentioned in one document only: an empty 2xx counts as done. */
    async cancelRender(credential, { id }) {
      const outcome = await endpoint.ask({
        pool: 'once',
        path: `/api/render/proxy/lambda/${pathId(id)}/cancel`,
        headers: endpoint.headers(credential),
        body: '',
        classify: answer =>
          answer.body === null && answer.status >= 200 && answer.status < 300
            ? { kind: 'ok', value: {} }
            : classifyRender(answer, 'read'),
      })
      return outcome.kind === 'ok' ? { kind: 'ok', value: null } : outcome
    },

    openFile: (credential, request) => openFile(endpoint, credential, request),
    close: () => endpoint.pools.close(),
  }
}

/** The draft is spliced in as text: one that is no JSON could add members of its own. */
function renderBody(body: { id: string; sessionId: string; draft: string; output: object }): string {
  const { draft, ...rest } = body
  if (!isJson(draft)) throw new TypeError('a draft that is no JSON cannot be rendered')
  return `${JSON.stringify(rest).slice(0, -1)},"draft":${draft}}`
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** An acceptance may leave the status out. */
function decodeSubmitted(json: JsonObject): RenderState | null {
  const decodedState = decodeRender(json)
  if (decodedState !== null || field(json, 'data', 'id', 'taskId') === undefined) return decodedState
  return { status: 'pending', progress: null, url: null, bytes: null, durationMs: null }
}
