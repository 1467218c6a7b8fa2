import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import type { Reply } from './http.ts'
import { readMp4 } from './mp4.ts'

const bytes = readFileSync(new URL('./assets/render.mp4', import.meta.url))
const etag = `"${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}"`
const lastModified = new Date(Date.UTC(2026, 0, 1)).toUTCString()

/** What every render comes to. */
export const renderFile = { bytes, seconds: readMp4(bytes)?.duration ?? 0, serve }

/** Answers GET and HEAD with one range, If-Range and If-None-Match (RFC 9110); several ranges get the whole. */
function serve(req: IncomingMessage): Reply {
  const { range, 'if-range': ifRange, 'if-none-match': ifNoneMatch } = req.headers
  const headers = {
    'content-type': 'video/mp4',
    'accept-ranges': 'bytes',
    'last-modified': lastModified,
    etag,
  }
  if (ifNoneMatch === etag) return { status: 304, headers, answer: 'ok' }
  const fits = ifRange === undefined || ifRange === etag || ifRange === lastModified
  const wanted = fits && range !== undefined ? parseRange(range) : null
  if (wanted === 'unsatisfiable') {
    return { status: 416, headers: { ...headers, 'content-range': `bytes */${bytes.length}` } }
  }
  if (!wanted) return { status: 200, headers, body: bytes, answer: 'ok' }
  const [first, last] = wanted
  const contentRange = `bytes ${first}-${last}/${bytes.length}`
  const part = bytes.subarray(first, last + 1)
  return { status: 206, headers: { ...headers, 'content-range': contentRange }, body: part, answer: 'ok' }
}

function parseRange(range: string): [number, number] | 'unsatisfiable' | null {
  const match = /^bytes=(\d*)-(\d*)$/.exec(range)
  if (!match || (match[1] === '' && match[2] === '')) return null
  const size = bytes.length
  if (match[1] === '') {
    const count = Number(match[2])
    return count === 0 ? 'unsatisfiable' : [Math.max(0, size - count), size - 1]
  }
  const first = Number(match[1])
  const last = match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1)
  if (match[2] !== '' && Number(match[2]) < first) return null
  return first >= size ? 'unsatisfiable' : [first, last]
}
