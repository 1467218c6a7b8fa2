import { Readable } from 'node:stream'
import type { RenderFile } from '../upstream/client.ts'
import { type Conditions, type FilmFacts, partOf } from './conditions.ts'

/** Answers as the upstream would; `read` is called only for bytes that somebody wants. */
export async function answerFrom(
  film: FilmFacts,
  conditions: Conditions,
  read: (range: { start: number; end: number } | null) => Readable | Promise<Readable>,
): Promise<RenderFile> {
  const { etag, lastModified, bytes } = film
  const facts = { mediaType: 'video/mp4', etag, lastModified }
  const part = partOf(conditions, film)
  switch (part.status) {
    case 200:
      return { ...facts, status: 200, bytes, contentRange: null, body: await read(null) }
    case 206: {
      const { start, end } = part
      const contentRange = `bytes ${start}-${end}/${bytes}`
      return { ...facts, status: 206, bytes: end - start + 1, contentRange, body: await read({ start, end }) }
    }
    case 304:
      return { ...facts, status: 304, bytes: null, contentRange: null, body: Readable.from([]) }
    case 416:
      return { ...facts, status: 416, bytes: null, contentRange: `bytes */${bytes}`, body: Readable.from([]) }
  }
}
