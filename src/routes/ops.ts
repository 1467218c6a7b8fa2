import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type, { type TSchema } from 'typebox'
import type { Ops } from '../services/ops.ts'
import { Id, IdParams, listOf, named, oneOfWords, Paging, PathId, strict, Time } from './schemas.ts'

const tags = ['Operators']
const config = { policy: 'ops' } as const
const optional = <T extends TSchema>(schema: T) => Type.Optional(schema)
const Word = Type.String({ pattern: '^[a-z_]{1,40}$' })
const owned = { id: Id, projectId: Id, userId: Id }

const OpsRender = named(
  'OpsRender',
  Type.Object({
    ...owned,
    platform: Type.String(),
    state: Type.String(),
    progress: Type.Integer(),
    attempts: Type.Integer(),
    polls: Type.Integer({ description: 'Looks at the current attempt so far' }),
    format: Type.String(),
    quality: Type.String(),
    revision: Type.Integer(),
    problemCode: optional(Type.String()),
    hasDraft: Type.Boolean(),
    fileBytes: optional(Type.Integer()),
    durationMs: optional(Type.Integer()),
    cancelRequestedAt: optional(Time),
    nextPollAt: optional(Time),
    claimed: Type.Boolean({ description: 'A worker has it in hand' }),
    createdAt: Time,
    submittedAt: optional(Time),
    completedAt: optional(Time),
    needsUserSince: optional(Time),
  }),
)

const OpsRun = named(
  'OpsRun',
  Type.Object({
    ...owned,
    platform: Type.String(),
    state: Type.String(),
    delivery: Type.String({ description: 'What is known of the message on its way to the backend' }),
    attempt: Type.Integer(),
    outcome: optional(Type.String()),
    problemCode: optional(Type.String()),
    settled: Type.Boolean(),
    stopRequestedAt: optional(Time),
    unchangedReads: Type.Integer(),
    nextReadAt: optional(Time),
    creditsBefore: optional(Type.Integer()),
    creditsAfter: optional(Type.Integer()),
    createdAt: Time,
    startedAt: optional(Time),
    finishedAt: optional(Time),
  }),
)

const OpsUpload = named(
  'OpsUpload',
  Type.Object({
    ...owned,
    state: Type.String(),
    mediaType: optional(Type.String()),
    bytes: optional(Type.Integer()),
    bytesForwarded: Type.Integer(),
    problemCode: optional(Type.String()),
    createdAt: Time,
    updatedAt: Time,
  }),
)

const OpsAccount = named(
  'OpsAccount',
  Type.Object({
    id: Id,
    userId: Id,
    userKind: Type.String(),
    kind: Type.String(),
    state: Type.String(),
    hasToken: Type.Boolean(),
    tokenExpiresAt: optional(Time),
    generation: Type.Integer(),
    mints: Type.Integer(),
    retryAt: optional(Time),
    mintingUntil: optional(Time),
    createdAt: Time,
    updatedAt: Time,
    serves: Type.Boolean({ description: 'New projects begin in it; the others keep theirs' }),
  }),
)

const OpsWindow = named(
  'OpsWindow',
  Type.Object({
    succeeded: Type.Integer(),
    failed: Type.Integer(),
    successRate: optional(Type.Number({ description: 'Of those that succeeded or failed, from 0 to 1' })),
    p50Ms: optional(Type.Integer({ description: 'From the request to the success' })),
    p95Ms: optional(Type.Integer()),
  }),
)

const OpsSummary = named(
  'OpsSummary',
  Type.Object({
    active: Type.Record(Type.String(), Type.Integer(), { description: 'How many are in each state now' }),
    oldestActiveAt: optional(Time),
    windows: Type.Object({ lastHour: OpsWindow, lastDay: OpsWindow, lastWeek: OpsWindow }),
  }),
)

const OpsOverview = named(
  'OpsOverview',
  Type.Object({
    renders: OpsSummary,
    runs: OpsSummary,
    uploads: OpsSummary,
    mintBudget: Type.Object({
      budget: Type.Integer(),
      delivered: Type.Integer(),
      unknown: Type.Integer(),
      refused: Type.Integer(),
      remaining: Type.Integer(),
      nextFreedAt: optional(Time),
    }),
    queues: Type.Array(
      Type.Object({
        name: Type.String(),
        waiting: Type.Integer(),
        deferred: Type.Integer(),
        active: Type.Integer(),
        failed: Type.Integer(),
        blockedKeys: Type.Integer(),
        oldestWaitingAt: optional(Time),
      }),
    ),
  }),
)

const paging = { limit: Paging.limit, after: optional(PathId), userId: optional(PathId) }
const ofProject = { ...paging, projectId: optional(PathId), problemCode: optional(Word) }

/** What operators may ask. There only with OPS_TOKEN. */
export const opsRoutes: FastifyPluginAsyncTypebox<{ ops: Ops }> = async (app, { ops }) => {
  app.get('/ops/v1/overview', {
    config,
    schema: { tags, summary: 'How everything is going', response: { 200: OpsOverview } },
    handler: async () => (await ops.overview()) as never,
  })

  app.get('/ops/v1/renders', {
    config,
    schema: {
      tags,
      summary: 'Renders of all users, newest first',
      querystring: Type.Object(
        {
          ...ofProject,
          state: optional(
            oneOfWords('queued', 'submitting', 'rendering', 'completed', 'failed', 'cancelled'),
          ),
          platform: optional(Word),
        },
        strict,
      ),
      response: { 200: listOf(OpsRender) },
    },
    handler: async ({ query }) => (await ops.renders(pageOf(query))) as never,
  })

  app.get('/ops/v1/runs', {
    config,
    schema: {
      tags,
      summary: 'Runs of all users, newest first',
      querystring: Type.Object(
        {
          ...ofProject,
          state: optional(oneOfWords('queued', 'running', 'reconciling', 'completed', 'failed', 'stopped')),
          delivery: optional(oneOfWords('not_sent', 'sent', 'acknowledged', 'unknown')),
          outcome: optional(oneOfWords('answered', 'edited', 'unchanged', 'unknown')),
          platform: optional(Word),
        },
        strict,
      ),
      response: { 200: listOf(OpsRun) },
    },
    handler: async ({ query }) => (await ops.runs(pageOf(query))) as never,
  })

  app.get('/ops/v1/uploads', {
    config,
    schema: {
      tags,
      summary: 'Uploads of all users, newest first',
      querystring: Type.Object(
        { ...ofProject, state: optional(oneOfWords('receiving', 'forwarding', 'ready', 'failed')) },
        strict,
      ),
      response: { 200: listOf(OpsUpload) },
    },
    handler: async ({ query }) => (await ops.uploads(pageOf(query))) as never,
  })

  app.get('/ops/v1/accounts', {
    config,
    schema: {
      tags,
      summary: 'Accounts at the backend, newest first',
      querystring: Type.Object(
        {
          ...paging,
          kind: optional(oneOfWords('anonymous', 'linked')),
          state: optional(oneOfWords('none', 'ready', 'reauth_required', 'rate_limited')),
        },
        strict,
      ),
      response: { 200: listOf(OpsAccount) },
    },
    handler: async ({ query }) => (await ops.accounts(pageOf(query))) as never,
  })

  app.post('/ops/v1/renders/:id/advance', {
    config,
    schema: {
      tags,
      summary: 'Has a render looked at now instead of when it is due',
      params: IdParams,
      response: { 202: OpsRender },
    },
    handler: async ({ params }, reply) => reply.code(202).send((await ops.advance(params.id)) as never),
  })
}

function pageOf({
  limit = 50,
  after,
  ...where
}: { limit?: number; after?: string } & Record<string, unknown>) {
  return { limit, after, where: where as Record<string, string | undefined> }
}
