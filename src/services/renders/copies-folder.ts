import { randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type Copies, UNFINISHED_MS } from './copies.ts'
import { answerFrom } from './copy-answer.ts'

/** A folder with one file for each film. */
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

    async open(id, conditions) {
      const file = await open(pathOf(id)).catch(error => {
        if (error.code === 'ENOENT') return null
        throw error
      })
      if (!file) return null
      const { size, mtime } = await file.stat()
      const film = { etag: `"${id}-${size}"`, lastModified: mtime.toUTCString(), bytes: size }
      const answer = await answerFrom(film, conditions, range => file.createReadStream(range ?? {}))
      // The stream of its bytes closes it; without one, nobody would.
      if (answer.bytes === null) await file.close()
      return answer
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
