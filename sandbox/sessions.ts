import { createHash, randomInt, randomUUID } from 'node:crypto'
import type { Backend, SignedCall } from './context.ts'
import { applyChange, type Change, writeDraft } from './draft.ts'
import { failure, invalid, type Reply, success } from './http.ts'
import type { Account, Session } from './state.ts'

/** POST /api/tasks/me/with-session/nemo_agent (§2.3) */
export function createSession({ world, save }: Backend, { body, entry, account }: SignedCall): Reply {
  if (typeof body?.task_name !== 'string') return invalid('task_name', 'Field required')
  if (typeof body.language !== 'string') return invalid('language', 'Field required')
  const session: Session = {
    id: newSessionId(),
    taskId: randomUUID(),
    taskName: body.task_name,
    language: body.language,
    userId: account.userId,
    tracks: [],
    draft: null,
    drafts: [],
    media: [],
    generated: [],
    effects: [],
    runs: 0,
    edits: 0,
    busyUntil: 0,
  }
  entry.accepted = true
  entry.sessionId = session.id
  world.sessions[session.id] = session
  save()
  return success({ task_id: session.taskId, session_id: session.id, user_id: account.userId })
}

/** GET /api/state/nemo_agent/me/{session_id}/latest (§2.7); a session that nobody spoke to has an empty state. */
export function readState(backend: Backend, { params, entry, account }: SignedCall): Reply {
  const session = findSession(backend, account, params.session!)
  if (!session) return failure(1002, 'session not found')
  entry.accepted = true
  const head = JSON.stringify({
    session_id: session.id,
    task_id: session.taskId,
    task_name: session.taskName,
  })
  const rest = JSON.stringify({
    video_infos: session.media,
    canvas_config: { ratio: '16:9', width: 1920, height: 1080 },
    generated_media: session.generated.length > 0 ? session.generated : null,
  })
  // The draft is put in as text: it must leave as it is stored.
  const state = session.draft === null ? '{}' : `{"draft":${session.draft},${rest.slice(1)}`
  const body = `{"code":0,"message":"success","data":${head.slice(0, -1)},"state":${state}}}`
  return { status: 200, headers: { 'content-type': 'application/json' }, body, answer: 'ok' }
}

/** The session, with everything that is due applied to it; null when it is unknown or another account's. */
export function findSession(backend: Backend, account: Account, id: string): Session | null {
  settle(backend, account)
  const session = backend.world.sessions[id]
  return session?.userId === account.userId ? session : null
}

/** Applies what is due by the clock in the account's sessions, and charges for it. */
export function settle({ world, save }: Backend, account: Account) {
  const now = Date.now()
  let changed = false
  for (const session of Object.values(world.sessions)) {
    if (session.userId !== account.userId) continue
    for (const effect of session.effects.filter(one => one.at <= now)) {
      if (effect.generated !== undefined) {
        const url = `https://cdn.sandbox.invalid/generated/${session.id}-${session.generated.length + 1}.mp4`
        session.generated.push({ type: 'video', prompt: effect.generated, url })
      }
      changeDraft(session, effect.changes)
      account.credits -= effect.cost
      changed = true
    }
    session.effects = session.effects.filter(one => one.at > now)
  }
  if (changed) save()
}

/** Changes the draft and writes its text anew; the caller saves. */
export function changeDraft(session: Session, changes: Change[]) {
  session.tracks = changes.reduce(applyChange, session.tracks)
  setDraft(session, writeDraft(session.tracks, session.taskName, session.drafts.length))
}

/** Makes any JSON text the draft; the caller saves. */
export function setDraft(session: Session, text: string) {
  session.draft = text
  session.drafts.push(digest(text))
}

export function digest(text: string) {
  return createHash('sha256').update(text).digest('hex')
}

/** 19 digits, beyond 2^53 (§0.5) and odd, so that a client that reads it as a number loses digits. */
function newSessionId() {
  const digits = String(randomInt(10 ** 9)).padStart(9, '0') + String(randomInt(10 ** 8)).padStart(8, '0')
  return `${randomInt(1, 10)}${digits}${randomInt(5) * 2 + 1}`
}
