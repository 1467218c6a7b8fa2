/** What a client asks of a film, in the words of HTTP (RFC 9110 §13.1, §14.2). */
export interface Conditions {
  range: string | null
  ifRange: string | null
  ifNoneMatch: string | null
}

export interface FilmFacts {
  etag: string
  lastModified: string
  bytes: number
}

export type Part =
  | { status: 200 }
  | { status: 206; start: number; end: number }
  /** The client has it already. */
  | { status: 304 }
  /** It ends before the range. */
  | { status: 416 }

/** Which part of a film answers a request. */
export function partOf({ range, ifRange, ifNoneMatch }: Conditions, film: FilmFacts): Part {
  if (ifNoneMatch !== null && names(ifNoneMatch, film.etag)) return { status: 304 }
  if (ifRange !== null && ifRange !== film.etag && ifRange !== film.lastModified) return { status: 200 }
  const wanted = rangeOf(range, film.bytes)
  if (wanted === 'all') return { status: 200 }
  return wanted === 'none' ? { status: 416 } : { status: 206, ...wanted }
}

/** A weak mark may come from a proxy that packed the film on its way; the film is the same. */
function names(header: string, etag: string): boolean {
  return header.trim() === '*' || header.split(',').some(one => one.trim().replace(/^W\//, '') === etag)
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
