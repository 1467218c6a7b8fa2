export interface PartHead {
  /** the form field */
  name: string
  /** null: an ordinary field */
  filename: string | null
  mediaType: string | null
}

export interface PartSink {
  write(bytes: Buffer): void
  end(): void
}

const maxHeadBytes = 16 * 1024

/**
 * Reads a multipart/form-data body (RFC 7578) as it arrives and holds no part of it. Strict: it begins with
 * the boundary, lines end in CRLF, the closing boundary is there. Throws `MalformedMultipart` otherwise.
 */
export async function readMultipart(
  source: AsyncIterable<Buffer>,
  boundary: string,
  onPart: (head: PartHead) => PartSink,
): Promise<void> {
  const delimiter = Buffer.from(`\r\n--${boundary}`)
  let state = 'start' as 'start' | 'delimited' | 'head' | 'body' | 'end'
  // The first boundary has no line end before it.
  let rest: Buffer = Buffer.from('\r\n')
  let sink: PartSink | null = null

  const step = (): boolean => {
    if (state === 'start') {
      if (rest.length < delimiter.length) return false
      if (!rest.subarray(0, delimiter.length).equals(delimiter)) throw new MalformedMultipart('no boundary')
      rest = rest.subarray(delimiter.length)
      state = 'delimited'
      return true
    }
    if (state === 'delimited') {
      if (rest.length < 2) return false
      const mark = rest.toString('latin1', 0, 2)
      if (mark !== '\r\n' && mark !== '--') throw new MalformedMultipart('garbage after a boundary')
      rest = rest.subarray(2)
      state = mark === '--' ? 'end' : 'head'
      return state !== 'end'
    }
    if (state === 'head') {
      const end = rest.indexOf('\r\n\r\n')
      if (end < 0 && rest.length > maxHeadBytes) throw new MalformedMultipart('part header too long')
      if (end < 0) return false
      sink = onPart(parseHead(rest.toString('utf8', 0, end)))
      rest = rest.subarray(end + 4)
      state = 'body'
      return true
    }
    if (state === 'body') {
      const at = rest.indexOf(delimiter)
      const sure = at < 0 ? rest.length - delimiter.length + 1 : at
      if (sure > 0) sink?.write(rest.subarray(0, sure))
      if (sure > 0) rest = rest.subarray(sure)
      if (at < 0) return false
      sink?.end()
      rest = rest.subarray(delimiter.length)
      state = 'delimited'
      return true
    }
    return false
  }

  for await (const chunk of source) {
    if (state === 'end') continue
    rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
    while (step()) {}
  }
  if (state !== 'end') throw new MalformedMultipart('no closing boundary')
}

export class MalformedMultipart extends Error {}

/** The boundary of a Content-Type, null when it is no multipart/form-data. */
export function boundaryOf(contentType: string | undefined): string | null {
  const match = /^multipart\/form-data\s*;.*\bboundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(
    contentType ?? '',
  )
  return match?.[1] ?? match?.[2] ?? null
}

function parseHead(text: string): PartHead {
  const lines = text.split('\r\n')
  const value = (name: string) =>
    lines
      .find(line => line.toLowerCase().startsWith(`${name}:`))
      ?.slice(name.length + 1)
      .trim() ?? null
  const disposition = value('content-disposition')
  const name = /(?<!file)name="([^"]*)"/i.exec(disposition ?? '')?.[1]
  if (!/^form-data\s*;/i.test(disposition ?? '') || name === undefined)
    throw new MalformedMultipart('part without a name')
  const filename = /\bfilename="((?:[^"\\]|\\.)*)"/i.exec(disposition ?? '')?.[1]
  return {
    name,
    filename: filename === undefined ? null : filename.replaceAll('%22', '"').replace(/\\(.)/g, '$1'),
    mediaType: value('content-type'),
  }
}
