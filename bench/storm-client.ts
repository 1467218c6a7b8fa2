import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

const [TEXT, CLOSE, PING, PONG] = [1, 8, 9, 10]
/** `#` number of the event `@` when it was sent `#` */
const MARK = /#(\d{6})@(\d{13}\.\d{3})#/g
const HASH = 35
const ANSWER = '{"type":'
const ID_WITHIN = 200
/** A connection that the kernel took and the server did not is answered by nobody. */
const PATIENCE_MS = 10_000

/** How one client comes in, from the beginning or after the last event it has. */
export interface Door {
  token: string
  path(after: string | null): string
  /** The first frame it sends. */
  hello?(after: string | null): object
}

/** A client of the storm: it counts numbered events, remembers the last id, and comes back where it was. */
export interface StormClient {
  /** Numbers seen in order; what is lost, doubled or out of order is counted apart. */
  seen: number
  wrong: number
  /** Why it was turned away or cut off, each time that it had to try again. */
  setbacks: string[]
  /** Comes in, as often as it takes. Resolves once it is subscribed. */
  comeIn(): Promise<void>
  /** As a network does it: both sides find the connection gone. */
  cut(): void
}

/**
 * It costs next to nothing: frames are told apart and searched, not parsed.
 *
 * @param count how many events there are; what comes after the last one is a summary, which tells the same again
 * @param onEvent hears of each event, with the time it was sent (ms since 1970)
 */
export function createStormClient(
  url: string,
  door: Door,
  count: number,
  onEvent: (client: StormClient, sentAt: number) => void,
): StormClient {
  const { hostname, port } = new URL(url)
  let socket: Socket | null = null
  let lastId: string | null = null
  const client: StormClient = { seen: 0, wrong: 0, setbacks: [], comeIn, cut }

  function cut() {
    const gone = socket
    socket = null
    gone?.resetAndDestroy()
  }

  async function comeIn() {
    while (!(await open())) {
      await new Promise(resolve => setTimeout(resolve, 500 + 1_000 * Math.random()))
    }
  }

  /** False when it was turned away. */
  function open(): Promise<boolean> {
    const opened = Promise.withResolvers<boolean>()
    const own = connect(Number(port), hostname).setNoDelay(true)
    socket = own
    let rest: Buffer = Buffer.alloc(0)
    let upgraded = false
    let subscribed = false
    let setback = 'cut off'
    own.write(
      `GET ${door.path(lastId)} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\nAuthorization: Bearer ${door.token}\r\n\r\n`,
    )
    const patience = setTimeout(turnAway, PATIENCE_MS, 'no answer')
    if (door.hello) own.write(clientFrame(TEXT, JSON.stringify(door.hello(lastId))))
    own.on('error', () => {})
    own.on('close', () => {
      clearTimeout(patience)
      if (socket !== own) return
      client.setbacks.push(setback)
      // Cut off by the server: it comes back as any client does.
      if (subscribed) comeIn()
      else opened.resolve(false)
    })
    own.on('data', bytes => {
      if (socket !== own) return
      rest = rest.length > 0 ? Buffer.concat([rest, bytes]) : bytes
      if (!upgraded) {
        const end = rest.indexOf('\r\n\r\n')
        if (end < 0) return
        const status = rest.toString('latin1', 'HTTP/1.1 '.length, 'HTTP/1.1 101'.length)
        if (status !== '101') return turnAway(status)
        upgraded = true
        rest = rest.subarray(end + 4)
      }
      rest = eachFrame(rest, (opcode, payload) => {
        if (opcode === PING) own.write(clientFrame(PONG, ''))
        else if (opcode === CLOSE) turnAway(String(payload.readUInt16BE()))
        else if (payload.toString('latin1', 0, ANSWER.length) !== ANSWER) read(payload)
        else if (payload.includes('"subscribed"')) {
          subscribed = true
          clearTimeout(patience)
          opened.resolve(true)
        } else if (payload.includes('"error"')) turnAway(payload.toString())
      })
    })
    return opened.promise

    function turnAway(why: string) {
      setback = why
      own.destroy()
    }
  }

  function read(payload: Buffer) {
    lastId = /"id":"([^"]+)"/.exec(payload.toString('latin1', 0, ID_WITHIN))![1]!
    for (let at = payload.indexOf(HASH); at >= 0 && client.seen < count; ) {
      MARK.lastIndex = 0
      const mark = MARK.exec(payload.toString('latin1', at, at + 26))
      if (mark) {
        if (Number(mark[1]) === client.seen) client.seen++
        else client.wrong++
        onEvent(client, Number(mark[2]))
      }
      at = payload.indexOf(HASH, at + (mark ? 26 : 1))
    }
  }

  return client
}

/** Hands out a server's whole frames (RFC 6455 §5.2) and returns what remains. */
function eachFrame(bytes: Buffer, take: (opcode: number, payload: Buffer) => void): Buffer {
  let at = 0
  while (bytes.length - at >= 2) {
    const short = bytes[at + 1]!
    const header = short < 126 ? 2 : short === 126 ? 4 : 10
    if (bytes.length - at < header) break
    const length =
      short < 126 ? short : short === 126 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2))
    if (bytes.length - at - header < length) break
    take(bytes[at]! & 15, bytes.subarray(at + header, at + header + length))
    at += header + length
  }
  // A copy: what remains must not keep what it came with.
  return at === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at))
}

/** A client's frame, for texts of less than 64 KiB. */
function clientFrame(opcode: number, text: string): Buffer {
  const payload = Buffer.from(text)
  const mask = randomBytes(4)
  for (let i = 0; i < payload.length; i++) payload[i]! ^= mask[i % 4]!
  const length =
    payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 255]
  return Buffer.concat([Buffer.from([0x80 | opcode, ...length]), mask, payload])
}
