import type { Readable } from 'node:stream'
import type { Db } from '../../db/client.ts'
import { loadProject, type ProjectRow } from '../../db/projects.ts'
import { latestAttempts } from '../../db/render-claims.ts'
import { type RenderRow, storeFileUrl } from '../../db/renders.ts'
import { ProblemError } from '../../problems.ts'
import type { Accounts } from '../accounts/accounts.ts'
import { holderOf } from '../projects.ts'
import type { RenderFile, UpstreamClient } from '../upstream/client.ts'
import type { Outcome } from '../upstream/failures.ts'
import type { Conditions } from './conditions.ts'
import type { Copies } from './copies.ts'
import { usableUrl } from './film.ts'

export interface FileRequest extends Conditions {
  /** Aborted when the client is gone. */
  signal: AbortSignal
}

export interface FileAnswer {
  status: 200 | 206 | 304 | 416
  headers: Record<string, string>
  body: Readable
}

/**
 * Opens a completed render's file: the copy that was kept, else where it is known to lie, else where the upstream says
 * it lies now, else through the download endpoint (upstream-contract §2.9).
 */
export function createFile(options: {
  db: Db
  accounts: Accounts
  upstream: UpstreamClient
  copies: Copies | null
  onError(error: unknown): void
}) {
  const { db, accounts, upstream, copies, onError } = options

  /** Throws a problem when it is nowhere to be had. */
  async function file(
    render: RenderRow,
    project: Pick<ProjectRow, 'name' | 'language' | 'sessionId' | 'accountId'>,
    request: FileRequest,
  ): Promise<FileAnswer> {
    // A copy that cannot be reached is as good as none while the upstream has the film.
    const copy = await copies?.open(render.id, request).catch(onError)
    const holder = holderOf(project, render)
    const found = copy ?? (await accounts.valueOrThrow(await film(render, request), holder, project.language))
    return { status: found.status, headers: headersOf(found, project.name), body: found.body }
  }

  async function film(render: RenderRow, request: FileRequest): Promise<Outcome<RenderFile>> {
    const project = await loadProject(db, render.projectId)
    const caller = project ? holderOf(project, render) : render
    const [attempt] = await latestAttempts(db, [render.id])
    if (!attempt) throw new ProblemError('not_ready')
    const id = attempt.upstreamId

    // Several ranges at once would come back as another type than video/mp4; the whole film is a right answer too.
    const range = request.range !== null && /^bytes=\d*-\d*$/.test(request.range) ? request.range : null
    const open = (url: string | null): Promise<Outcome<RenderFile>> =>
      accounts.call(caller, credential => upstream.openFile(credential, { ...request, id, url, range }))

    async function freshUrl(): Promise<string | null> {
      const state = await accounts.call(caller, credential => upstream.render(credential, { id }))
      const url = state.kind === 'ok' ? usableUrl(state.value.url) : null
      if (url === null || url === render.fileUrl) return null
      await storeFileUrl(db, render.id, url)
      return url
    }

    let opened: Outcome<RenderFile> | null = render.fileUrl === null ? null : await open(render.fileUrl)
    if (isDead(opened)) {
      const url = await freshUrl()
      if (url !== null) opened = await open(url)
    }
    return isDead(opened) ? open(null) : opened
  }

  return { file, film }
}

function isDead(opened: Outcome<RenderFile> | null): opened is null | Exclude<typeof opened, { kind: 'ok' }> {
  return opened === null || (opened.kind !== 'ok' && opened.kind !== 'aborted')
}

function headersOf(file: RenderFile, name: string): Record<string, string> {
  return {
    // Whatever the upstream calls it, a browser is not to run it.
    'content-type': 'video/mp4',
    'content-disposition': attachment(name),
    'x-content-type-options': 'nosniff',
    'content-security-policy': "sandbox; default-src 'none'",
    'cache-control': 'private, no-store',
    'accept-ranges': 'bytes',
    ...(file.bytes !== null && { 'content-length': String(file.bytes) }),
    ...(file.contentRange !== null && { 'content-range': file.contentRange }),
    ...(file.etag !== null && { etag: file.etag }),
    ...(file.lastModified !== null && { 'last-modified': file.lastModified }),
  }
}

/**
 * RFC 6266: an ASCII name for old clients and the true one in RFC 5987's encoding. Control characters, path
 * separators and direction overrides would make the saved file look like another.
 */
export function attachment(name: string): string {
  const safe = name
    .toWellFormed()
    .replace(/[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069/\\:*?"<>|]+/gu, ' ')
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/^[. ]+/, '')
  const stem = safe.replace(/\.mp4$/, '').trim() || 'video'
  const bounded = [...stem].slice(0, 100).join('')
  const ascii = bounded.replace(/[^\x20-\x7e]/g, '_')
  const encoded = encodeURIComponent(bounded).replace(
    /['()*!]/g,
    mark => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `attachment; filename="${ascii}.mp4"; filename*=UTF-8''${encoded}.mp4`
}
