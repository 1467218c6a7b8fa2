import { type Entry, encodeCursor } from './event.ts'

/** The entry as every reader gets it, in JSON. */
export function entryFrame(entry: Entry, epoch: string): string {
  const run = entry.runId ? `"runId":"${entry.runId}",` : ''
  return `{"id":"${encodeCursor(epoch, entry.projectId, entry.seq)}","seq":${entry.seq},"projectId":"${entry.projectId}",${run}"at":"${entry.at.toISOString()}","chunk":${entry.chunk}}`
}

/** Bytes of a block of entries, the same for all readers that are at the same place. */
export type Framing = (entries: Entry[], epoch: string) => Buffer

/** Server-Sent Events: LF only, the cursor as the id that a browser sends back when it reconnects. */
export const sseFrames: Framing = oncePerBlock((entries, epoch) =>
  Buffer.from(
    entries
      .map(entry => {
        const id = encodeCursor(epoch, entry.projectId, entry.seq)
        return `id: ${id}\ndata: ${entryFrame(entry, epoch)}\n\n`
      })
      .join(''),
  ),
)

/** Text frames of a WebSocket without compression, one for each entry (RFC 6455 §5.2; a server does not mask). */
export const webSocketFrames: Framing = oncePerBlock((entries, epoch) => {
  const texts = entries.map(entry => entryFrame(entry, epoch))
  const lengths = texts.map(text => Buffer.byteLength(text))
  const bytes = Buffer.allocUnsafe(lengths.reduce((sum, length) => sum + headerLength(length) + length, 0))
  let at = 0
  for (const [i, text] of texts.entries()) {
    at = writeHeader(bytes, at, lengths[i]!)
    at += bytes.write(text, at)
  }
  return bytes
})

const headerLength = (length: number) => (length < 126 ? 2 : length < 65_536 ? 4 : 10)

function writeHeader(bytes: Buffer, at: number, length: number): number {
  const FINAL_TEXT = 0x81
  bytes[at++] = FINAL_TEXT
  if (length < 126) return bytes.writeUInt8(length, at)
  if (length < 65_536) return bytes.writeUInt16BE(length, bytes.writeUInt8(126, at))
  return bytes.writeBigUInt64BE(BigInt(length), bytes.writeUInt8(127, at))
}

/**
 * The hub gives the same array to everybody whom it tells the same, so what is built is kept on it: each collection
 * would go through a WeakMap, for thousands of short-lived arrays a second.
 */
function oncePerBlock(build: Framing): Framing {
  const kept = Symbol('bytes')
  return (entries: Entry[] & { [kept]?: Buffer }, epoch) => (entries[kept] ??= build(entries, epoch))
}
