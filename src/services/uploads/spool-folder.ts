import { randomBytes } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, open, readdir, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { FileStore } from '@tus/file-store'
import type { Spool, UploadFacts } from './spool.ts'

const CHUNK_BYTES = 1 << 20
const ID = /^[0-9a-f-]{36}$/

/** A folder, named by the id in its file `id`: instances that share the folder share the spool. */
export async function openSpoolFolder(options: {
  dataDir: string
  keepMs: number
  facts: UploadFacts
}): Promise<Spool> {
  const directory = join(options.dataDir, 'spool')
  await mkdir(directory, { recursive: true })
  const store = new FileStore({
    directory,
    configstore: options.facts,
    expirationPeriodInMilliseconds: options.keepMs,
  })
  store.extensions = ['creation', 'creation-with-upload', 'termination', 'expiration']
  const path = (id: string) => {
    if (!ID.test(id)) throw new Error('Not the id of an upload')
    return join(directory, id)
  }

  // In place of the library's, which hides why it failed.
  store.write = async (source, id, offset) => {
    const file = createWriteStream(path(id), { flags: 'r+', start: offset, highWaterMark: CHUNK_BYTES })
    await pipeline(source as Readable, file)
    return offset + file.bytesWritten
  }

  const size = (id: string) =>
    stat(path(id)).then(
      ({ size }) => size,
      error => {
        if (error.code === 'ENOENT') return null
        throw error
      },
    )

  return {
    id: await idOf(directory),
    store,
    size,

    async read(id) {
      return createReadStream(path(id), { highWaterMark: CHUNK_BYTES })
    },

    async settle(id) {
      const file = await open(path(id), 'r+')
      await file.datasync().finally(() => file.close())
    },

    async remove(id) {
      await rm(path(id), { force: true })
    },

    async freeBytes() {
      const { bavail, bsize } = await statfs(directory)
      return bavail * bsize
    },

    async quiet(quietMs) {
      const ids = (await readdir(directory)).filter(name => ID.test(name))
      const quiet: string[] = []
      for (const id of ids) {
        const file = await stat(path(id)).catch(() => null)
        if (file && Date.now() - file.mtimeMs > quietMs) quiet.push(id)
      }
      return quiet
    },
  }
}

/** Of two instances that make the folder at once, one gives it its id. */
async function idOf(directory: string): Promise<string> {
  const path = join(directory, 'id')
  await writeFile(path, randomBytes(8).toString('hex'), { flag: 'wx' }).catch(error => {
    if (error.code !== 'EEXIST') throw error
  })
  for (let attempt = 0; attempt < 100; attempt++) {
    const id = (await readFile(path, 'utf8')).trim()
    if (/^[0-9a-f]{16}$/.test(id)) return id
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  throw new Error(`${path} does not hold the id of a spool`)
}
