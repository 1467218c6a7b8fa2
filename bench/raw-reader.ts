import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

/** `#` number of the event `@` when it was sent `#` */
const MARK = Buffer.byteLength('#000000@0000000000000.000#')
const HASH = 35
const AT = 64

/** A subscriber that costs next to nothing: it looks for the marks in the bytes and leaves the rest alone. */
export interface RawReader {
  socket: Socket
  subscribed: Promise<void>
  /** Numbers seen in order; what is lost, doubled or out of order is counted apart. */
  seen: number
  wrong: number
  closed: boolean
  close(): void
}

export function openReader(
  url: string,
  options: {
    path: string
    headers?: Record<string, string>
    send?: string
    expect: string
    /** How many events there are; what comes after the last is a run's summary, which tells its text again. */
    count?: number
    onMark?(sentAt: number): void
    onSeen?(seen: number): void
  },
): RawReader {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname).setNoDelay(true)
  const subscribed = Promise.withResolvers<void>()
  const reader: RawReader = {
    socket,
    subscribed: subscribed.promise,
    seen: 0,
    wrong: 0,
    closed: false,
    close: () => socket.destroy(),
  }
  let head: string | null = ''
  let rest: Buffer | null = null
  const lines = Object.entries(options.headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(
    `GET ${options.path} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n${lines.join('')}\r\n`,
  )
  if (options.send) socket.write(maskedText(options.send))
  socket.on('error', () => {})
  socket.on('close', () => {
    reader.closed = true
    subscribed.reject(new Error(`${url}${options.path} closed: ${head?.slice(0, 200)}`))
  })
  subscribed.promise.catch(() => {})
  socket.on('data', (bytes: Buffer) => {
    if (head !== null) {
      head += bytes.toString('latin1')
      if (!head.includes(options.expect)) return
      bytes = Buffer.from(head, 'latin1')
      head = null
      subscribed.resolve()
    }
    if (rest) bytes = Buffer.concat([rest, bytes])
    rest = null
    let next = 0
    for (let at = bytes.indexOf(HASH); at >= 0; at = bytes.indexOf(HASH, next)) {
      if (at + MARK > bytes.length) {
        rest = bytes.subarray(at)
        break
      }
      // The length of a frame may hold the same byte.
      const isMark = bytes[at + 7] === AT && bytes[at + MARK - 1] === HASH
      next = at + (isMark ? MARK : 1)
      if (!isMark) continue
      if (reader.seen === options.count) return
      const n = Number(bytes.toString('latin1', at + 1, at + 7))
      if (n === reader.seen) reader.seen++
      else reader.wrong++
      options.onMark?.(Number(bytes.toString('latin1', at + 8, at + MARK - 1)))
      options.onSeen?.(reader.seen)
    }
  })
  return reader
}

/** A client's frame (RFC 6455 §5.3), for texts of less than 64 KiB. */
function maskedText(text: string): Buffer {
  const payload = Buffer.from(text)
  const mask = randomBytes(4)
  for (let i = 0; i < payload.length; i++) payload[i]! ^= mask[i % 4]!
  const length =
    payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 255]
  return Buffer.concat([Buffer.from([0x81, ...length]), mask, payload])
}
