import { balance, claim, mint } from './accounts.ts'
import type { OpenHandler, SignedHandler } from './context.ts'
import type { Endpoint } from './fault.ts'
import { cancelRender, download, file, pollRender, submitRender } from './renders.ts'
import { run } from './run.ts'
import { createSession, readState } from './sessions.ts'
import { upload } from './upload.ts'

export interface Route {
  endpoint: Endpoint
  method: 'GET' | 'POST'
  path: string
  /** what a call without the X-Skill-* headers gets (§1); 0: they are not asked for */
  unattributed: 400 | 402 | 0
  /** read before the handler, as JSON */
  hasBody: boolean
  open?: OpenHandler
  signed?: SignedHandler
}

/** Everything that the backend answers (§2). */
export const routes: Route[] = [
  post('mint', '/api/auth/anonymous-token', { open: mint }),
  post('claim', '/api/auth/claim-token', { signed: claim, hasBody: true }),
  post('session', '/api/tasks/me/with-session/nemo_agent', { signed: createSession, hasBody: true }),
  post('run', '/run_sse', { signed: run, hasBody: true }),
  post('upload', '/api/upload-video/nemo_agent/me/:session', { signed: upload }),
  get('credits', '/api/credits/balance/simple', { signed: balance }),
  get('state', '/api/state/nemo_agent/me/:session/latest', { signed: readState }),
  post('render', '/api/render/proxy/lambda', { signed: submitRender, hasBody: true, unattributed: 402 }),
  get('render_poll', '/api/render/proxy/lambda/:id', { signed: pollRender }),
  post('cancel', '/api/render/proxy/lambda/:id/cancel', { signed: cancelRender }),
  get('download', '/api/render/proxy/:id/download', { signed: download }),
  get('file', '/files/:file', { open: file, unattributed: 0 }),
]

type Rest = Partial<Route> & ({ open: OpenHandler } | { signed: SignedHandler })

function post(endpoint: Endpoint, path: string, rest: Rest): Route {
  return { endpoint, method: 'POST', path, unattributed: 400, hasBody: false, ...rest }
}

function get(endpoint: Endpoint, path: string, rest: Rest): Route {
  return { endpoint, method: 'GET', path, unattributed: 400, hasBody: false, ...rest }
}

/** The route of a path, exact to the slash, and what stands in its places; null when there is none. */
export function findRoute(
  method: string,
  path: string,
): { route: Route; params: Record<string, string> } | null {
  const parts = path.split('/')
  for (const route of routes) {
    if (route.method !== (method === 'HEAD' ? 'GET' : method)) continue
    const params = match(route.path.split('/'), parts)
    if (params) return { route, params }
  }
  return null
}

function match(pattern: string[], parts: string[]): Record<string, string> | null {
  if (pattern.length !== parts.length) return null
  const params: Record<string, string> = {}
  for (const [i, name] of pattern.entries()) {
    const part = parts[i] ?? ''
    if (!name.startsWith(':')) {
      if (name !== part) return null
      continue
    }
    // Ids are never encoded; an escape in one is a path that somebody tries to climb.
    if (!/^[\w.-]+$/.test(part)) return null
    params[name.slice(1)] = part
  }
  return params
}
