import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import type { WebSocket } from 'ws'
import { asProblem, notFound, type Problem, ProblemError } from '../problems.ts'
import { webSocketFrames } from '../services/events/frames.ts'
import type { EventLog, Following } from '../services/events/log.ts'
import type { Projects } from '../services/projects.ts'
import type { ClientSession, Sessions } from '../services/users/sessions.ts'
import { credentialOf } from './authenticate.ts'
import { createReaderSink } from './reader-sink.ts'
import type { Readers } from './readers.ts'
import { isId, strict } from './schemas.ts'

const HELLO_MS = 10_000
const PING_MS = 25_000
const PONG_MS = 8_000
const MAX_SUBSCRIPTIONS = 50
const MAX_FRAMES_PER_SECOND = 20

/** Close codes: from 4000 clients come back, from 4500 they do not. */
const CLOSE = {
  restart: [1012, 'restart'],
  slow: [4008, 'too slow'],
  noPong: [4012, 'no pong'],
  frames: [4013, 'too many requests'],
  frame: [4501, 'bad frame'],
  noCredential: [4502, 'no credential in time'],
  signedOut: [4503, 'signed out'],
  readers: [4504, 'too many open readers'],
} as const satisfies Record<string, [code: number, text: string]>

export const Text = Type.String({ minLength: 1, maxLength: 256 })
/** What a client may send. */
export const ClientFrame = Type.Union([
  Type.Object({ type: Type.Literal('hello'), token: Text }, strict),
  Type.Object({ type: Type.Literal('hello'), ticket: Text }, strict),
  Type.Object({ type: Type.Literal('subscribe'), projectId: Text, after: Type.Optional(Text) }, strict),
  Type.Object({ type: Type.Literal('unsubscribe'), projectId: Text }, strict),
  Type.Object({ type: Type.Literal('ping') }, strict),
])
const Frame = Compile(ClientFrame)

interface SocketOptions {
  log: EventLog
  projects: Projects
  sessions: Sessions
  readers: Readers
  onClosed(): void
}

/** One client's socket: signed in or not yet, and what it follows. */
export interface LiveSocket {
  session: ClientSession | null
  close(reason: keyof typeof CLOSE): void
}

/** A frame that is none is its client's failure: whoever sends many must not fill the log. */
export function endFailed(socket: WebSocket, log: FastifyBaseLogger, error: Error) {
  const isClients = /^(WS_ERR_|ECONNRESET|EPIPE)/.test((error as NodeJS.ErrnoException).code ?? '')
  log[isClients ? 'debug' : 'error']({ err: error }, 'socket failed')
  socket.terminate()
}

/** Speaks the frames of `reelgate.v1` with one client until either side closes. */
export function serveLive(
  socket: WebSocket,
  request: FastifyRequest<{ Querystring: { ticket?: string } }>,
  { log, projects, sessions, readers, onClosed }: SocketOptions,
): LiveSocket {
  // Nothing that lives as long as the socket may hold on to the request: not its answer, nor the plugin's listener.
  const { log: logger } = request
  const { ticket } = request.query
  const { token } = credentialOf(request)
  const stream = (socket as unknown as { _socket: Socket & { _httpMessage?: ServerResponse } })._socket
  stream._httpMessage?.detachSocket(stream)
  socket.removeAllListeners('error')
  const sink = createReaderSink({
    // A prebuilt frame may go out between the frames of `ws`, which sends whole ones and compresses none.
    stream,
    framing: webSocketFrames,
    log,
    isOpen: () => socket.readyState === socket.OPEN,
    tooSlow: () => close('slow'),
  })
  const subscriptions = new Map<string, Promise<Following | 'not a cursor'>>()
  const live: LiveSocket = { session: null, close }
  let place: { leave(): void } | null = null
  let frames = 0
  let secondBegan = 0
  let awaitingPong: NodeJS.Timeout | undefined
  let inbox: Promise<void> = Promise.resolve()

  let hasCredential = false
  // Whoever wakes up from a freeze finds the time over before having read what came meanwhile.
  const hello = setTimeout(() => setImmediate(() => hasCredential || close('noCredential')), HELLO_MS)
  const pings = setInterval(() => {
    // Behind what is unread a ping would come too late: its reader has the time of a slow one.
    if (stream.writableNeedDrain) return void sink.drained()
    socket.ping()
    awaitingPong = setTimeout(
      () => (stream.writableNeedDrain ? void sink.drained() : close('noPong')),
      PONG_MS,
    )
  }, PING_MS)

  socket.on('pong', () => {
    clearTimeout(awaitingPong)
    refuseTooMany()
  })
  // `ws` answers each by itself, for a client that reads no answer too: what it does not take would fill the memory.
  socket.on('ping', refuseTooMany)
  socket.on('error', error => endFailed(socket, logger, error))
  socket.on('close', () => {
    onClosed()
    clearTimeout(hello)
    clearTimeout(awaitingPong)
    clearInterval(pings)
    for (const projectId of subscriptions.keys()) unsubscribe(projectId)
    place?.leave()
  })
  socket.on('message', (data, isBinary) => {
    // Frames go on coming until the client has answered the close.
    if (socket.readyState !== socket.OPEN) return
    if (refuseTooMany()) return
    // In order: a subscribe that follows its hello at once must find the session.
    inbox = inbox
      .then(() => receive(isBinary ? null : parse(String(data))))
      .catch(error => sendProblem(asProblem(error)))
  })
  if (ticket) inbox = welcome(sessions.redeem(ticket))
  else if (token) inbox = welcome(sessions.findTogether(token))

  /** Counts a frame of whatever kind; true when it is one too many. */
  function refuseTooMany(): boolean {
    const now = performance.now()
    if (now - secondBegan >= 1_000) {
      secondBegan = now
      frames = 0
    }
    const tooMany = ++frames > MAX_FRAMES_PER_SECOND
    if (tooMany && socket.readyState === socket.OPEN) close('frames')
    return tooMany
  }

  async function receive(frame: ReturnType<typeof parse>) {
    if (socket.readyState !== socket.OPEN) return
    if (!frame) return close('frame')
    if (frame.type === 'ping') return send({ type: 'pong' })
    if (frame.type === 'hello')
      return welcome('token' in frame ? sessions.findTogether(frame.token) : sessions.redeem(frame.ticket))
    if (!live.session) return close('frame')
    if (frame.type === 'subscribe') return subscribe(frame.projectId, frame.after, live.session.user.id)
    unsubscribe(frame.projectId)
    send({ type: 'unsubscribed', projectId: frame.projectId })
  }

  async function welcome(found: Promise<ClientSession | undefined>) {
    hasCredential = true
    const session = await found.catch(error => {
      sendProblem(asProblem(error))
      // Neither signed in nor out: 4502 or 4503 would tell the client never to come back.
      close('restart')
    })
    if (socket.readyState !== socket.OPEN || live.session) return
    if (!session) return close('signedOut')
    place = readers.enter(session, () => close('signedOut'))
    if (!place) return close('readers')
    clearTimeout(hello)
    live.session = session
    send({ type: 'ready', userId: session.user.id, pingEveryMs: PING_MS })
  }

  async function subscribe(projectId: string, after: string | undefined, userId: string) {
    try {
      if (!subscriptions.has(projectId) && subscriptions.size >= MAX_SUBSCRIPTIONS)
        throw new ProblemError('rate_limited', `At most ${MAX_SUBSCRIPTIONS} subscriptions a socket.`)
      if (!isId(projectId)) throw notFound()
      await projects.checkOwn(userId, projectId)
      // Nobody would unsubscribe for a client that left meanwhile.
      if (socket.readyState !== socket.OPEN) return
      unsubscribe(projectId)
      const following = log.follow(projectId, after)
      subscriptions.set(projectId, following)
      const result = await following.catch(error => {
        subscriptions.delete(projectId)
        throw error
      })
      if (result === 'not a cursor') {
        subscriptions.delete(projectId)
        throw new ProblemError('invalid_request', '`after` is not a cursor.')
      }
      send({ type: 'subscribed', projectId, cursor: result.cursor, recovered: result.recovered })
      if (result.recovered) result.subscription.start(sink, () => close('restart'))
      else subscriptions.delete(projectId)
    } catch (error) {
      const problem = asProblem(error)
      sendProblem(problem, projectId)
      // Open, it would look to the client as if nothing happened in its project; it comes back by its cursors.
      if (problem.status >= 500) close('restart')
    }
  }

  function unsubscribe(projectId: string) {
    const following = subscriptions.get(projectId)
    subscriptions.delete(projectId)
    following?.then(
      result => result !== 'not a cursor' && result.recovered && result.subscription.close(),
      () => {},
    )
  }

  function send(frame: object) {
    sink.flush()
    socket.send(JSON.stringify(frame))
  }

  function sendProblem(problem: Problem, projectId?: string) {
    if (problem.status >= 500) logger.warn({ code: problem.code }, 'socket problem')
    if (socket.readyState === socket.OPEN)
      send({ type: 'error', problem, ...(projectId ? { projectId } : {}) })
  }

  function close(reason: keyof typeof CLOSE) {
    const [code, text] = CLOSE[reason]
    socket.close(code, text)
    // Closing waits for what is buffered; a reader that does not read would hold it for ever.
    if (reason === 'slow' || reason === 'noPong') socket.terminate()
    else setTimeout(() => socket.terminate(), 2_000).unref()
  }

  return live
}

function parse(text: string) {
  try {
    const frame: unknown = JSON.parse(text)
    return Frame.Check(frame) ? frame : null
  } catch {
    return null
  }
}
