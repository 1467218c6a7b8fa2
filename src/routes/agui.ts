import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import Type from 'typebox'
import { notFound, ProblemError } from '../problems.ts'
import type { Agui, Joined } from '../services/agui/agui.ts'
import { beginning, type Reader, retold } from '../services/agui/chunks.ts'
import { askedBy, isCurrent } from '../services/agui/input.ts'
import type { EventLog } from '../services/events/log.ts'
import type { ClientSession } from '../services/users/sessions.ts'
import { createRunSink, frameOf } from './agui-sink.ts'
import { openEventStream } from './event-stream.ts'
import type { Readers } from './readers.ts'
import { isId, named, oneOfWords, PathId, strict, Time } from './schemas.ts'

const MAX_BODY_BYTES = 4 * 1024 * 1024
const MAX_HISTORY = 200
const BEGINNING = '-1'

const RunId = Type.String({
  pattern: '^[\\x21-\\x7e]{1,255}$',
  description: 'The client’s own name for the run, unique in the project. The same one again is the same run',
})

const Input = named(
  'RunAgentInput',
  Type.Object(
    {
      threadId: Type.String({ description: 'The project’s id' }),
      runId: RunId,
      messages: Type.Array(
        Type.Object(
          { role: Type.String(), content: Type.Optional(Type.Unknown()) },
          { description: 'An AG-UI message' },
        ),
        { minItems: 1, description: 'Only the last one with the role "user" is used' },
      ),
      protocolVersion: Type.Optional(Type.Unknown({ description: 'Sent by clients of AG-UI 1.0 and later' })),
      forwardedProps: Type.Optional(
        Type.Unknown({ description: '`intent` and `whenBusy` are read, as POST …/messages takes them' }),
      ),
    },
    { additionalProperties: true, description: 'AG-UI’s RunAgentInput; its other fields are ignored' },
  ),
)

const ThreadHistory = named(
  'ThreadHistory',
  Type.Object({
    messages: Type.Array(
      Type.Object({
        id: Type.String(),
        role: oneOfWords('user', 'assistant'),
        content: Type.String(),
        parts: Type.Array(Type.Object({ type: Type.Literal('text'), content: Type.String() })),
        createdAt: Time,
      }),
    ),
    activeRun: Type.Union([Type.Object({ runId: Type.String() }), Type.Null()]),
    page: Type.Object({
      truncated: Type.Boolean(),
      cursor: Type.Optional(Type.String({ description: '`before` of the page with what was said earlier' })),
    }),
  }),
)

const Query = Type.Object(
  {
    threadId: Type.Optional(Type.String({ description: 'A project’s id: answers what was said in it' })),
    runId: Type.Optional(Type.String({ maxLength: 255, description: 'A run to join: answers its events' })),
    offset: Type.Optional(
      Type.String({
        maxLength: 128,
        description: 'After which event of the run; -1, the default, is its beginning',
      }),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_HISTORY,
        default: MAX_HISTORY,
        description: 'How many messages of the user, each with its answer',
      }),
    ),
    before: Type.Optional(PathId),
  },
  strict,
)

const events = {
  description: 'The run’s AG-UI events',
  content: { 'text/event-stream': { schema: Type.String() } },
}

interface Options {
  agui: Agui
  log: EventLog
  readers: Readers
  /** Aborted when the instance goes down: streams are cut, and clients resume elsewhere. */
  closing: AbortSignal
}

/** The door for AG-UI clients: one POST has something done and answers that run's part of the log. */
export const aguiRoutes: FastifyPluginAsyncTypebox<Options> = async (app, options) => {
  const { agui, log } = options
  const tags = ['AG-UI']

  app.post('/v1/agui', {
    config: { policy: 'signed-in' },
    bodyLimit: MAX_BODY_BYTES,
    schema: {
      tags,
      summary: 'Run the agent (RunAgentInput): the events of that run; resumes with Last-Event-ID',
      body: Input,
      response: { 200: events },
    },
    handler: ({ session, platform, body, headers }, reply) => {
      const { threadId, runId } = body
      const after = headers['last-event-id']
      return stream(reply, session, { current: isCurrent(body), after: oneOf(after) }, async () => {
        const asked = askedBy(body)
        if (!isId(threadId)) throw notFound()
        // Who has read of this run has begun it. A run that is not known any more must not be sent a second time.
        if (after) return agui.rejoin(session.user.id, threadId, runId)
        return agui.start({ userId: session.user.id, platform }, threadId, runId, asked)
      })
    },
  })

  app.get('/v1/agui', {
    config: { policy: 'signed-in' },
    exposeHeadRoute: false,
    schema: {
      tags,
      summary: 'What was said (threadId), or the events of a run (runId)',
      querystring: Query,
      response: {
        200: {
          ...events,
          content: { 'application/json': { schema: ThreadHistory }, ...events.content },
        },
      },
    },
    handler: async ({ session, query, headers }, reply) => {
      const { threadId, runId, offset = BEGINNING, limit = MAX_HISTORY, before } = query
      if (runId !== undefined) {
        // The client's address stays that of the first connection.
        const after = oneOf(headers['last-event-id']) || (offset === BEGINNING ? null : offset)
        return stream(reply, session, { current: false, after }, () => agui.join(session.user.id, runId))
      }
      if (threadId === undefined) throw new ProblemError('invalid_request', 'Give a threadId or a runId.')
      if (!isId(threadId)) throw notFound()
      return reply.send(
        await agui.history(session.user.id, threadId, { limit, ...(before ? { before } : {}) }),
      )
    },
  })

  async function stream(
    reply: FastifyReply,
    session: ClientSession,
    { current, after }: { current: boolean; after: string | null },
    find: () => Promise<Joined>,
  ) {
    const { prepared, stream } = await openEventStream(
      reply,
      { ...options, session, onClosing: 'cut' },
      async () => {
        const run = await find()
        return { run, reading: await agui.read(run, after) }
      },
    )
    const { run, reading } = prepared
    const reader: Reader = { runId: run.runId, language: run.language, current }
    if (reading.kind === 'over') return stream.end()
    if (reading.kind === 'not kept') {
      stream.write(
        retold(run.row, reader)
          .map(chunk => frameOf(chunk))
          .join(''),
      )
      return stream.end()
    }
    const { subscription } = reading
    const { id, projectId, acceptedSeq } = run.row
    const idOf = ({ seq }: { seq: number }) => log.cursor(projectId, seq)
    stream.onClose(subscription.close)
    if (reading.begins) stream.write(frameOf(beginning(run.row, reader), idOf({ seq: acceptedSeq })))
    const sink = createRunSink(stream, { runId: id, reader, idOf, ended: subscription.close })
    subscription.start(sink, stream.cut)
  }
}

const oneOf = (header: string | string[] | undefined) => (Array.isArray(header) ? header[0] : header) || null
