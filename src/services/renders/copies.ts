import { randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { RenderFile } from '../upstream/client.ts'

const UNFINISHED_MS = 24 * 3_600_000

export interface Copies {
  /** Writes a film down; it is there whole or not at all. Rejects when the stream breaks off or the disk is full. */
  keep(id: string, film: RenderFile): Promise<void>
  /** A part of the copy, or all of it, as the upstream would answer; null when there is none here. */
  open(id: string, request: { range: string | null; ifRange: string | null }): Promise<RenderFile | null>
  /** Removes the copies that `wanted` leaves out, and what was never finished. */
  sweep(wanted: (ids: string[]) => Promise<string[]>): Promise<void>
}

/** Copies of finished films in a folder, one file each, named by the render's id. */
export function createCopies(folder: string): Copies {
  const pathOf = (id: string) => join(folder, `${id}.mp4`)

  return {
    async keep(id, { body, bytes }) {
      await mkdir(folder, { recursive: true })
      const unfinished = join(folder, `${id}.${randomUUID()}.part`)
      try {
        await pipeline(body, createWriteStream(unfinished, { mode: 0o600, flush: true }))
        const { size } = await stat(unfinished)
        if (bytes !== null && size !== bytes)
          throw new Error(`The film has ${size} bytes instead of ${bytes}`)
        await rename(unfinished, pathOf(id))
      } catch (error) {
        await rm(unfinished, { force: true })
        throw error
      }
    },

    async open(id, request) {
      const file = await open(pathOf(id)).catch(error => {
        if (error.code === 'ENOENT') return null
        throw error
      })
      if (!file) return null
      const { size, mtime } = await file.stat()
      const etag = `"${id}-${size}"`
      const lastModified = mtime.toUTCString()
      const same = request.ifRange === null || request.ifRange === etag || request.ifRange === lastModified
      const range = same ? rangeOf(request.range, size) : 'all'
      const film = { mediaType: 'video/mp4', etag, lastModified, contentRange: null, bytes: null }
      if (range === 'none') {
        await file.close()
        return { ...film, status: 416, contentRange: `bytes */${size}`, body: Readable.from([]) }
      }
      if (range === 'all') return { ...film, status: 200, bytes: size, body: file.createReadStream() }
      const { start, end } = range
      return {
        ...film,
        status: 206,
        bytes: end - start + 1,
        contentRange: `bytes ${start}-${end}/${size}`,
        body: file.createReadStream(range),
      }
    },

    async sweep(wanted) {
      const names = await readdir(folder).catch(() => [])
      const ids = names.filter(name => name.endsWith('.mp4')).map(name => name.slice(0, -'.mp4'.length))
      const kept = new Set(await wanted(ids))
      for (const id of ids) if (!kept.has(id)) await rm(pathOf(id), { force: true })
      for (const name of names.filter(name => name.endsWith('.part'))) {
        const { mtimeMs } = await stat(join(folder, name)).catch(() => ({
          mtimeMs: Number.POSITIVE_INFINITY,
        }))
        if (mtimeMs < Date.now() - UNFINISHED_MS) await rm(join(folder, name), { force: true })
      }
    },
  }
}

/** RFC 9110 §14.1.2, one range. What cannot be read is ignored; `none`: the file ends before it. */
export function rangeOf(
  header: string | null,
  size: number,
): { start: number; end: number } | 'all' | 'none' {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? []
  if (first === '' && last === '') return 'all'
  if (first === '') {
    const count = Math.min(Number(last), size)
    return count === 0 ? 'none' : { start: size - count, end: size - 1 }
  }
  const [start, end] = [Number(first), last === '' ? size - 1 : Math.min(Number(last), size - 1)]
  if (last !== '' && Number(last) < start) return 'all'
  return start < size ? { start, end } : 'none'
}
