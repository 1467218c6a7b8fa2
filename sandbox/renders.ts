import type { Backend, Call, SignedCall } from './context.ts'
import { isExportable } from './draft.ts'
import { renderFile } from './files.ts'
import { detail, invalid, json, type Reply } from './http.ts'
import { rawMember } from './raw-json.ts'
import { digest, findSession } from './sessions.ts'
import type { RenderJob, World } from './state.ts'

/** POST /api/render/proxy/lambda (§2.8) */
export function submitRender(backend: Backend, { body, text, entry, account, fault }: SignedCall): Reply {
  if (!body || text === null) return invalid('', 'JSON decode error')
  const { id, sessionId, output } = body
  if (typeof id !== 'string' || !/^[\w.-]{1,128}$/.test(id)) return invalid('id', 'Field required')
  if (typeof sessionId !== 'string') return invalid('sessionId', 'Field required')
  const { format, quality } = (output ?? {}) as { format?: unknown; quality?: unknown }
  if (typeof format !== 'string' || typeof quality !== 'string') return invalid('output', 'Field required')
  const session = findSession(backend, account, sessionId)
  if (!session) return detail(404, 'Session not found')
  const draft = rawMember(text, 'draft')
  entry.draftMatches = draft !== null && session.drafts.includes(digest(draft))
  if (backend.world.renders.some(render => render.id === id)) return refusal('Render id already exists')
  if (!isExportable(body.draft)) return refusal('Draft has nothing to render')

  entry.accepted = true
  const fate = fault?.answer === 'fail' || fault?.answer === 'dead_url' ? fault.answer : 'complete'
  backend.world.renders.push({
    id,
    sessionId,
    userId: account.userId,
    createdAt: Date.now(),
    workMs: backend.settings.speed.renderMs,
    fate,
    cancelledAt: null,
  })
  backend.save()
  return { ...json(200, { success: true, data: { id, status: 'pending', progress: 5 } }), answer: 'ok' }
}

/** GET /api/render/proxy/lambda/{id}: one of the two shapes (§2.8), always the same one for an id. */
export function pollRender(backend: Backend, call: SignedCall): Reply {
  const { entry } = call
  const render = findRender(backend, call)
  if (!render) return refusal('Render not found', 404)
  entry.accepted = true
  const { status, progress, completedAt, error } = progressOf(render, backend.world, Date.now())
  entry.status = status
  const url = status === 'completed' ? `${backend.origin()}/files/${render.id}.mp4` : null
  const shapeA = {
    taskId: render.id,
    status,
    progress,
    output: url === null ? null : { url, duration: renderFile.seconds, size: renderFile.bytes.length },
    ...(error && { error }),
  }
  const { createdAt } = render
  const data = { id: render.id, status, progress, outputUrl: url, createdAt, completedAt, error }
  const isA = Number.parseInt(digest(render.id).slice(0, 2), 16) % 2 === 0
  return { ...json(200, isA ? shapeA : { success: true, data }), answer: 'ok' }
}

/** POST /api/render/proxy/lambda/{id}/cancel: what was not finished ends as failed. */
export function cancelRender(backend: Backend, call: SignedCall): Reply {
  const { entry } = call
  const render = findRender(backend, call)
  if (!render) return refusal('Render not found', 404)
  entry.accepted = true
  const { status } = progressOf(render, backend.world, Date.now())
  if (status === 'pending' || status === 'processing') render.cancelledAt = Date.now()
  backend.save()
  const after = progressOf(render, backend.world, Date.now())
  const data = { id: render.id, status: after.status, progress: after.progress }
  return { ...json(200, { success: true, data }), answer: 'ok' }
}

/** GET /api/render/proxy/{id}/download (§2.9): a 302 to a link that works even when the output's is dead. */
export function download(backend: Backend, call: SignedCall): Reply {
  const { req, entry, fault } = call
  const render = findRender(backend, call)
  if (!render) return refusal('Render not found', 404)
  if (progressOf(render, backend.world, Date.now()).status !== 'completed') {
    return refusal('Render is not completed', 409)
  }
  entry.accepted = true
  const url = `${backend.origin()}/files/${render.id}.mp4?fresh=1`
  if (fault?.answer === 'bytes') return renderFile.serve(req)
  if (fault?.answer === 'json') return { ...json(200, { output: { url } }), answer: 'ok' }
  return { status: 302, headers: { location: url }, answer: 'ok' }
}

/** GET /files/{id}.mp4: the finished file, to whoever has the link. */
export function file({ world }: Backend, { req, params, entry }: Call): Reply {
  const id = params.file!.replace(/\.mp4$/, '')
  const render = world.renders.find(one => one.id === id)
  if (!render || !params.file!.endsWith('.mp4')) return detail(404, 'Not Found')
  entry.renderId = id
  if (progressOf(render, world, Date.now()).status !== 'completed') return detail(404, 'Not Found')
  if (render.fate === 'dead_url' && !req.url?.endsWith('?fresh=1')) return detail(410, 'Link has expired')
  entry.accepted = true
  return renderFile.serve(req)
}

interface Progress {
  status: 'pending' | 'processing' | 'completed' | 'failed'
  progress: number
  completedAt: number | null
  error: string | null
}

/** Where a render stands at `now`: a session's renders are made one after the other, and nothing else counts. */
export function progressOf(render: RenderJob, { renders }: Pick<World, 'renders'>, now: number): Progress {
  let start = 0
  let end = 0
  for (const one of renders.filter(other => other.sessionId === render.sessionId)) {
    start = Math.max(one.createdAt, end)
    end = Math.max(start, Math.min(start + one.workMs, one.cancelledAt ?? Number.POSITIVE_INFINITY))
    if (one === render) break
  }
  const failed = (error: string): Progress => ({ status: 'failed', progress: 0, completedAt: end, error })
  if (render.cancelledAt !== null) return failed('Render was cancelled')
  const share = (now - start) / render.workMs
  if (share < 0.15) return { status: 'pending', progress: 5, completedAt: null, error: null }
  if (now < end) {
    return { status: 'processing', progress: 5 + Math.floor(share * 90), completedAt: null, error: null }
  }
  if (render.fate === 'fail') return failed('Lambda function timed out')
  return { status: 'completed', progress: 100, completedAt: end, error: null }
}

function findRender({ world }: Backend, { params, account, entry }: SignedCall): RenderJob | undefined {
  const render = world.renders.find(one => one.id === params.id && one.userId === account.userId)
  if (render) entry.sessionId = render.sessionId
  return render
}

/** How the render endpoints say no; the HTTP status of a refused submission is 200 (§0.8). */
function refusal(error: string, status = 200): Reply {
  return { ...json(status, { success: false, error }), answer: status === 200 ? 'refused' : `http ${status}` }
}
