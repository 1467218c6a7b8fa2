const LF = 10
const CR = 13
const COLON = 58
const SPACE = 32
const BOM = [0xef, 0xbb, 0xbf]

export type SseItem = { kind: 'message'; data: string } | { kind: 'comment' } | { kind: 'oversized' }

export interface SseParser {
  /** The items that `chunk` completes, in order. After `oversized` nothing more comes. */
  push(chunk: Uint8Array): SseItem[]
  /** Whether the stream may stop here: false when a frame was begun and not closed by an empty line. */
  complete(): boolean
}

/**
 * Bytes to messages by the WHATWG rules (upstream-contract §8): LF, CR and CRLF, one BOM, comments, several data
 * lines. Lines are cut as bytes, so a character split across chunks is whole again before it is decoded.
 * `maxFrameBytes` bounds what is held for a frame or a comment while it is still arriving.
 */
export function createSseParser(options: { maxFrameBytes: number }): SseParser {
  let pieces: Uint8Array[] = []
  let pieceBytes = 0
  let data: string[] = []
  let frameBytes = 0
  let open = false
  let skipLineFeed = false
  let firstLine = true
  let oversized = false

  function push(chunk: Uint8Array): SseItem[] {
    const items: SseItem[] = []
    if (oversized) return items
    let start = 0
    let cr = chunk.indexOf(CR)
    let lf = chunk.indexOf(LF)
    while (start < chunk.length) {
      if (skipLineFeed) {
        skipLineFeed = false
        if (chunk[start] === LF) {
          start++
          lf = chunk.indexOf(LF, start)
          continue
        }
      }
      const lineEnd = cr === -1 || (lf !== -1 && lf < cr) ? lf : cr
      const end = lineEnd === -1 ? chunk.length : lineEnd
      if (frameBytes + pieceBytes + (end - start) > options.maxFrameBytes) {
        oversized = true
        pieces = []
        data = []
        items.push({ kind: 'oversized' })
        return items
      }
      if (lineEnd === -1) {
        // undici reuses no buffer, but a small rest would keep a whole chunk alive.
        pieces.push(chunk.slice(start))
        pieceBytes += end - start
        return items
      }
      const item = readLine(takeLine(chunk.subarray(start, end)))
      if (item !== null) items.push(item)
      skipLineFeed = chunk[lineEnd] === CR
      start = lineEnd + 1
      if (cr !== -1 && cr < start) cr = chunk.indexOf(CR, start)
      if (lf !== -1 && lf < start) lf = chunk.indexOf(LF, start)
    }
    return items
  }

  function takeLine(last: Uint8Array): Uint8Array {
    let line = last
    if (pieces.length > 0) {
      line = Buffer.concat([...pieces, last])
      pieces = []
      pieceBytes = 0
    }
    if (firstLine) {
      firstLine = false
      if (startsWithBom(line)) return line.subarray(BOM.length)
    }
    return line
  }

  function readLine(line: Uint8Array): SseItem | null {
    if (line.length === 0) {
      const message: SseItem | null = data.length > 0 ? { kind: 'message', data: data.join('\n') } : null
      data = []
      frameBytes = 0
      open = false
      return message
    }
    if (line[0] === COLON) return { kind: 'comment' }
    open = true
    if (!isDataLine(line)) return null
    frameBytes += line.length + 1
    data.push(decode(line.subarray(line[5] === SPACE ? 6 : 5)))
    return null
  }

  function complete(): boolean {
    return !oversized && !open && (pieces[0] === undefined || pieces[0][0] === COLON)
  }

  return { push, complete }
}

function isDataLine(line: Uint8Array): boolean {
  const named = line[0] === 100 && line[1] === 97 && line[2] === 116 && line[3] === 97
  return named && (line.length === 4 || line[4] === COLON)
}

function startsWithBom(bytes: Uint8Array): boolean {
  return BOM.every((byte, index) => bytes[index] === byte)
}

function decode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}
