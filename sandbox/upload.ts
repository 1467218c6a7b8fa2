import { createHash } from 'node:crypto'
import type { Backend, SignedCall } from './context.ts'
import { detail, failure, invalid, parseObject, type Reply, readText, success } from './http.ts'
import { readMp4 } from './mp4.ts'
import { boundaryOf, MalformedMultipart, type PartHead, type PartSink, readMultipart } from './multipart.ts'
import { changeDraft, digest, findSession } from './sessions.ts'
import type { Media, Session } from './state.ts'

const types: Record<Media['file_type'], string[]> = {
  video: ['mp4', 'mov', 'avi', 'webm', 'mkv'],
  image: ['jpg', 'jpeg', 'png', 'gif', 'webp'],
  audio: ['mp3', 'wav', 'm4a', 'aac'],
}

/** Enough of a file to find the sizes of a fast-start MP4. */
const headBytes = 256 * 1024

interface Received {
  filename: string
  bytes: number
  sha256: string
  head: Buffer
}

/** POST /api/upload-video/nemo_agent/me/{session_id} (§2.5): a multipart body is counted and hashed, never held. */
export async function upload(backend: Backend, call: SignedCall): Promise<Reply> {
  const { req, params, account, entry } = call
  const session = findSession(backend, account, params.session!)
  if (!session) {
    req.resume()
    return failure(1002, 'session not found')
  }
  const boundary = boundaryOf(req.headers['content-type'])
  if (boundary === null) return uploadUrls(backend, call, session)

  const files: Received[] = []
  let wrongField: string | null = null
  try {
    await readMultipart(req, boundary, head => {
      if (head.name !== 'files' || head.filename === null) wrongField ??= head.name
      return receive(head, backend.settings.maxUploadBytes, file => files.push(file))
    })
  } catch (error) {
    if (error instanceof MalformedMultipart) return detail(400, 'There was an error parsing the body')
    throw error
  }
  entry.bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  if (files[0]) entry.sha256 = files[0].sha256
  if (wrongField !== null || files.length === 0) return invalid('files', 'Field required')
  const refused = files.find(file => typeOf(file.filename) === null)
  if (refused) return failure(4001, `unsupported file type: ${refused.filename}`)
  if (files.some(file => file.bytes > backend.settings.maxUploadBytes)) return failure(4002, 'file too large')
  return accept(
    backend,
    call,
    session,
    files.map(file => describe(file.filename, file.sha256, readMp4(file.head))),
  )
}

/** The other form of the call: `{"urls": […], "source_type": "url"}`. Nothing is fetched. */
async function uploadUrls(backend: Backend, call: SignedCall, session: Session): Promise<Reply> {
  const body = parseObject(await readText(call.req))
  if (!body) return detail(400, 'There was an error parsing the body')
  if (body.source_type !== 'url') return invalid('source_type', 'Input should be url')
  const urls = body.urls
  if (!Array.isArray(urls) || urls.length === 0) return invalid('urls', 'Field required')
  if (!urls.every(url => typeof url === 'string' && /^https?:\/\//.test(url) && URL.canParse(url))) {
    return invalid('urls', 'Input should be a valid URL')
  }
  const names = urls.map(url => new URL(url).pathname.split('/').at(-1) ?? '')
  const refused = names.find(name => typeOf(name) === null)
  if (refused !== undefined) return failure(4001, `unsupported file type: ${refused}`)
  return accept(
    backend,
    call,
    session,
    names.map((name, i) => describe(name, digest(urls[i]), null)),
  )
}

/** Adds the media to the session's state; the first ones of an empty draft become its first track. */
function accept({ save }: Backend, { entry }: SignedCall, session: Session, media: Media[]): Reply {
  entry.accepted = true
  session.media.push(...media)
  for (const one of media) {
    if (session.tracks.length > 0) break
    const title = one.filename.replace(/\.\w+$/, '')
    const durationMs = Math.round((one.duration ?? 5) * 1000)
    const sizes = { width: one.width ?? 1920, height: one.height ?? 1080 }
    if (one.file_type === 'audio') changeDraft(session, [{ kind: 'sound', title, durationMs }])
    else changeDraft(session, [{ kind: 'clip', title, durationMs, ...sizes }])
  }
  if (session.draft === null) changeDraft(session, [])
  save()
  return success({ files: media, session_state_applied: true })
}

function receive(head: PartHead, maxBytes: number, done: (file: Received) => void): PartSink {
  const hash = createHash('sha256')
  const kept: Buffer[] = []
  let bytes = 0
  return {
    write(chunk) {
      if (bytes < headBytes) kept.push(Buffer.from(chunk.subarray(0, headBytes - bytes)))
      bytes += chunk.length
      // A file that will be refused is only counted.
      if (bytes <= maxBytes) hash.update(chunk)
    },
    end() {
      done({ filename: head.filename ?? '', bytes, sha256: hash.digest('hex'), head: Buffer.concat(kept) })
    },
  }
}

function describe(filename: string, hash: string, facts: ReturnType<typeof readMp4>): Media {
  const file_type = typeOf(filename) ?? 'video'
  const seen = file_type !== 'audio'
  return {
    filename,
    file_type,
    cdn_url: `https://cdn.sandbox.invalid/${hash.slice(0, 32)}/${encodeURIComponent(filename)}`,
    duration: file_type === 'image' ? null : (facts?.duration ?? 10.5),
    width: seen ? (facts?.width ?? 1920) : null,
    height: seen ? (facts?.height ?? 1080) : null,
    fps: file_type === 'video' ? 30 : null,
    hash,
  }
}

function typeOf(filename: string): Media['file_type'] | null {
  const extension = /\.(\w+)$/.exec(filename)?.[1]?.toLowerCase() ?? ''
  const found = Object.entries(types).find(([, extensions]) => extensions.includes(extension))
  return (found?.[0] as Media['file_type'] | undefined) ?? null
}
