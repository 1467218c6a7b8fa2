import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../problems.ts'
import { entryFrame, sseFrames } from '../services/events/frames.ts'
import type { EventLog } from '../services/events/log.ts'
import type { Projects } from '../services/projects.ts'
import type { ClientSession } from '../services/users/sessions.ts'
import { openEventStream } from './event-stream.ts'
import { createReaderSink } from './reader-sink.ts'
import type { Readers } from './readers.ts'
import { Id, IdParams, named, Paging, strict, Time } from './schemas.ts'

export const Entry = named(
  'Entry',
  Type.Object({
    id: Type.String({ description: 'The cursor of this entry' }),
    seq: Type.Integer(),
    projectId: Id,
    runId: Type.Optional(Id),
    at: Time,
    chunk: Type.Object(
      { type: Type.String() },
      { description: 'An AG-UI 1.0 event', additionalProperties: true },
    ),
  }),
)

const EntryPage = named(
  'EntryPage',
  Type.Object({
    items: Type.Array(Entry),
    next: Type.Union([Type.String(), Type.Null()]),
    cursor: Type.String(),
    recovered: Type.Boolean({ description: 'False: fetch the project and go on from its cursor' }),
  }),
)

interface Options {
  log: EventLog
  projects: Projects
  readers: Readers
  /** Aborted when the instance goes down: streams end, and clients come back elsewhere. */
  closing: AbortSignal
}

/** A project's log, page by page or as a live stream of Server-Sent Events. */
export const eventRoutes: FastifyPluginAsyncTypebox<Options> = async (
  app,
  { log, projects, readers, closing },
) => {
  app.get('/v1/projects/:id/events', {
    config: { policy: 'signed-in' },
    schema: {
      tags: ['Events'],
      summary: 'The project’s log after a cursor; live with Accept: text/event-stream',
      params: IdParams,
      querystring: Type.Object(Paging, strict),
      response: {
        200: {
          description: 'A page of the log',
          content: { 'application/json': { schema: EntryPage } },
        },
      },
    },
    handler: async (request, reply) => {
      const { params, query, session } = request
      await projects.own(session.user.id, params.id)
      const wantsStream = /\btext\/event-stream\b/.test(request.headers.accept ?? '')
      // The answer to a HEAD has no body, so a stream would be one that never ends.
      if (wantsStream && request.method === 'GET') {
        const after = headerOf(request.headers['last-event-id']) || query.after
        return stream(reply, session, params.id, after)
      }
      const page = await log.page(params.id, query.after, query.limit ?? 50)
      if (page === 'not a cursor') throw notACursor()
      const items = page.entries.map(entry => entryFrame(entry, log.epoch)).join(',')
      const cursor = JSON.stringify(page.cursor)
      // Entries are JSON already; encoding them again would cost more than reading them.
      return reply
        .type('application/json')
        .serializer(String)
        .send(
          `{"items":[${items}],"next":${page.more ? cursor : null},"cursor":${cursor},"recovered":${page.recovered}}` as never,
        )
    },
  })

  async function stream(
    reply: FastifyReply,
    session: ClientSession,
    projectId: string,
    after: string | undefined,
  ) {
    const reader = { session, readers, closing, onClosing: 'end' } as const
    const { stream, prepared: following } = await openEventStream(reply, reader, async () => {
      const following = await log.follow(projectId, after)
      if (following === 'not a cursor') throw notACursor()
      return following
    })
    if (!following.recovered) {
      stream.write(`event: lost\ndata: ${JSON.stringify(following)}\n\n`)
      return stream.end()
    }
    const { subscription, cursor } = following
    stream.onClose(subscription.close)
    // A browser that is cut off before the first entry comes back to where it began.
    stream.write(`id: ${cursor}\n\n`)
    const { isOpen, cut } = stream
    const sink = createReaderSink({ stream: reply.raw, framing: sseFrames, log, isOpen, tooSlow: cut })
    subscription.start(sink, cut)
  }
}

const notACursor = () => new ProblemError('invalid_request', '`after` is not a cursor.')
const headerOf = (value: string | string[] | undefined) => (Array.isArray(value) ? value[0] : value)
