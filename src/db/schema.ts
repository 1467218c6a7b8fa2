import { sql } from 'drizzle-orm'
import {
  bigint,
  boolean,
  check,
  customType,
  index,
  integer,
  json,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  uuid,
  varchar,
} from 'drizzle-orm/pg-core'
import type { Problem } from '../problems.ts'

// Row level security stands in the migrations alone (0008): drizzle does not need to know of it.

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })
const at = (name: string) => timestamp(name, { withTimezone: true, precision: 3 })
const id = (name = 'id') => uuid(name)

const owner = () =>
  id('user_id')
    .notNull()
    .references(() => users.id, { onDelete: 'cascade' })
const projectId = () =>
  id('project_id')
    .notNull()
    .references(() => projects.id, { onDelete: 'cascade' })

export const users = pgTable('users', {
  id: id().primaryKey(),
  kind: text({ enum: ['guest', 'account'] }).notNull(),
  language: text().notNull(),
  email: text(),
  createdAt: at('created_at').notNull().defaultNow(),
})

export const clientSessions = pgTable(
  'client_sessions',
  {
    id: id().primaryKey(),
    userId: owner(),
    tokenHash: bytea('token_hash').notNull(),
    delivery: text({ enum: ['bearer', 'cookie'] }).notNull(),
    createdAt: at('created_at').notNull().defaultNow(),
    /** To the day: a session that is not used for long ends before `expiresAt`. */
    usedAt: at('used_at').notNull().defaultNow(),
    expiresAt: at('expires_at').notNull(),
  },
  t => [
    uniqueIndex('client_sessions_token_hash').on(t.tokenHash),
    index('client_sessions_user').on(t.userId),
    index('client_sessions_expires').on(t.expiresAt),
  ],
)

/** Who an identity provider says a user is. A subject means nothing without its issuer. */
export const identities = pgTable(
  'identities',
  {
    issuer: text().notNull(),
    subject: text().notNull(),
    userId: owner(),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  t => [
    primaryKey({ name: 'identities_pkey', columns: [t.issuer, t.subject] }),
    index('identities_user').on(t.userId),
  ],
)

export const tickets = pgTable('tickets', {
  ticketHash: bytea('ticket_hash').primaryKey(),
  sessionId: id('session_id')
    .notNull()
    .references(() => clientSessions.id, { onDelete: 'cascade' }),
  expiresAt: at('expires_at').notNull(),
})

/**
 * The upstream identities of users, of which one `serves` each: what has no project yet happens in that one.
 * `generation` grows with each new token: a caller renews the one it used.
 */
export const upstreamAccounts = pgTable(
  'upstream_accounts',
  {
    id: id().primaryKey().defaultRandom(),
    userId: owner(),
    serves: boolean().notNull().default(true),
    kind: text({ enum: ['anonymous', 'linked'] }).notNull(),
    clientId: uuid('client_id').notNull(),
    sealedToken: text('sealed_token'),
    tokenExpiresAt: at('token_expires_at'),
    generation: integer().notNull().default(0),
    upstreamUserId: text('upstream_user_id'),
    state: text({ enum: ['none', 'ready', 'reauth_required', 'rate_limited'] })
      .notNull()
      .default('none'),
    retryAt: at('retry_at'),
    /** A mint is on its way; until then nobody else asks. */
    mintingUntil: at('minting_until'),
    mints: integer().notNull().default(0),
    createdAt: at('created_at').notNull().defaultNow(),
    updatedAt: at('updated_at').notNull().defaultNow(),
  },
  t => [
    uniqueIndex('upstream_accounts_serving').on(t.userId).where(sql`serves`),
    index('upstream_accounts_user').on(t.userId),
  ],
)

/**
 * One row for each anonymous token that was asked for, written before the call: `unknown` until its answer is there,
 * and for good when none came. Without a foreign key, because a user who is gone does not give the token back.
 */
export const mints = pgTable(
  'mints',
  {
    id: id().primaryKey().defaultRandom(),
    userId: id('user_id').notNull(),
    clientId: uuid('client_id').notNull(),
    outcome: text({ enum: ['delivered', 'refused', 'unknown'] }).notNull(),
    at: at('at').notNull().defaultNow(),
  },
  t => [index('mints_at').on(t.at)],
)

/** At most one row: how many tokens the gateway that started last may ask for in 7 days. `ops.mint_budget` tells it. */
export const mintLimit = pgTable(
  'mint_limit',
  { one: boolean().primaryKey().default(true), perWeek: integer('per_week').notNull() },
  t => [check('mint_limit_one', sql`${t.one}`)],
)

export const projects = pgTable(
  'projects',
  {
    id: id().primaryKey(),
    userId: owner(),
    /** The account that made its session and alone can open it; null with a session: the shared one. */
    accountId: id('account_id').references(() => upstreamAccounts.id),
    name: text().notNull(),
    language: text().notNull(),
    sessionId: text('session_id'),
    taskId: text('task_id'),
    sessionGeneration: integer('session_generation').notNull().default(0),
    lastSeq: bigint('last_seq', { mode: 'number' }).notNull().default(0),
    revision: integer().notNull().default(0),
    fingerprint: text(),
    timeline: jsonb(),
    media: jsonb().notNull().default([]),
    summary: text(),
    exportable: boolean().notNull().default(false),
    stateFetchedAt: at('state_fetched_at'),
    createdAt: at('created_at').notNull().defaultNow(),
    lastActivityAt: at('last_activity_at').notNull().defaultNow(),
    deletedAt: at('deleted_at'),
  },
  t => [
    index('projects_user').on(t.userId, t.id),
    index('projects_account').on(t.accountId).where(sql`account_id is not null`),
  ],
)

/** `delivery` is what is known of the message on its way upstream; only `not_sent` may ever be sent. */
export const runs = pgTable(
  'runs',
  {
    id: id().primaryKey(),
    projectId: projectId(),
    userId: id('user_id').notNull(),
    platform: text().notNull(),
    /** The client's Idempotency-Key: the same request, made again after a crash, finds this row. */
    requestKey: text('request_key'),
    /** The `runId` of an AG-UI client, which knows the run by this name. */
    alias: text(),
    /** Where the log tells that the message was accepted: what it tells of the run comes after. */
    acceptedSeq: bigint('accepted_seq', { mode: 'number' }).notNull().default(0),
    text: text().notNull(),
    state: text({ enum: ['queued', 'running', 'reconciling', 'completed', 'failed', 'stopped'] }).notNull(),
    delivery: text({ enum: ['not_sent', 'sent', 'acknowledged', 'unknown'] })
      .notNull()
      .default('not_sent'),
    /** The job attempt that may write this run; a worker that lost the job holds an older number. */
    attempt: integer().notNull().default(0),
    /** Counts the batches written to the log, so that a commit whose answer was lost is not written twice. */
    logWrites: integer('log_writes').notNull().default(0),
    reply: text(),
    summary: text(),
    outcome: text({ enum: ['answered', 'edited', 'unchanged', 'unknown'] }),
    problem: jsonb().$type<Problem>(),
    stopRequestedAt: at('stop_requested_at'),
    /** After a stop or a cut the upstream may still be at work; the next message waits until it is not. */
    settled: boolean().notNull().default(true),
    /** The project's state before the message: `{fingerprint, state}`. */
    baseline: jsonb(),
    openMessageId: text('open_message_id'),
    /** Reconciliation: reads in a row that found nothing new, and the fingerprint of the last one. */
    unchangedReads: integer('unchanged_reads').notNull().default(0),
    lastRead: text('last_read'),
    nextReadAt: at('next_read_at'),
    creditsBefore: integer('credits_before'),
    creditsAfter: integer('credits_after'),
    createdAt: at('created_at').notNull().defaultNow(),
    startedAt: at('started_at'),
    finishedAt: at('finished_at'),
    /** Its text stands in the log in whole messages. */
    compacted: boolean().notNull().default(false),
  },
  t => [
    index('runs_project').on(t.projectId, t.id),
    uniqueIndex('runs_request_key').on(t.userId, t.requestKey),
    uniqueIndex('runs_alias').on(t.alias, t.projectId).where(sql`alias is not null`),
    index('runs_active').on(t.projectId).where(sql`state in ('queued', 'running', 'reconciling')`),
    index('runs_uncompacted').on(t.finishedAt).where(sql`not compacted and finished_at is not null`),
  ],
)

/** Partitioned by day of `at`; made and dropped by `event-days.ts`. Written under the project's row lock. */
export const events = pgTable(
  'events',
  {
    projectId: id('project_id').notNull(),
    seq: bigint({ mode: 'number' }).notNull(),
    runId: id('run_id'),
    at: at('at').notNull(),
    chunk: json().notNull(),
    /** Of a compacted block: the number of its first entry; `seq` is that of its last. */
    firstSeq: bigint('first_seq', { mode: 'number' }),
  },
  t => [
    primaryKey({ name: 'events_pkey', columns: [t.projectId, t.seq, t.at] }),
    index('events_run').on(t.runId).where(sql`run_id is not null`),
  ],
)

/** One row. A program that knows fewer migrations than `requires` must not run on this schema. */
export const schemaCompatibility = pgTable(
  'schema_compatibility',
  { one: boolean().primaryKey().default(true), requires: integer().notNull() },
  t => [check('schema_compatibility_one', sql`${t.one}`)],
)

/** One row: a log whose epoch differs may have gone backwards, so its cursors are not continued. */
export const logEpoch = pgTable(
  'log_epoch',
  {
    one: boolean().primaryKey().default(true),
    epoch: text().notNull(),
    /** The database that the epoch belongs to (`event-epoch.ts`). */
    identity: text(),
  },
  t => [check('log_epoch_one', sql`${t.one}`)],
)

export const uploads = pgTable(
  'uploads',
  {
    id: id().primaryKey(),
    projectId: projectId(),
    userId: id('user_id').notNull(),
    state: text({ enum: ['receiving', 'forwarding', 'ready', 'failed'] }).notNull(),
    filename: text().notNull(),
    mediaType: text('media_type'),
    bytes: bigint({ mode: 'number' }),
    bytesForwarded: bigint('bytes_forwarded', { mode: 'number' }).notNull().default(0),
    media: jsonb(),
    problem: jsonb().$type<Problem>(),
    createdAt: at('created_at').notNull().defaultNow(),
    updatedAt: at('updated_at').notNull().defaultNow(),
  },
  t => [
    index('uploads_project').on(t.projectId, t.id),
    index('uploads_unfinished').on(t.updatedAt).where(sql`state in ('receiving', 'forwarding')`),
  ],
)

/**
 * What is kept of an upload until its bytes have been forwarded: while the row is there, `spool` may hold a file of
 * its name. `delivery` is what is known of its way upstream; after `sent`, the project is looked at before it is sent
 * again: whether the session of `sessionGeneration` has a file named `upstreamName`.
 */
export const uploadSpools = pgTable(
  'upload_spools',
  {
    uploadId: id('upload_id')
      .primaryKey()
      .references(() => uploads.id, { onDelete: 'cascade' }),
    spool: text().notNull(),
    platform: text().notNull(),
    declaredType: text('declared_type').notNull(),
    /** The header `Upload-Metadata` as it came. */
    metadata: text().notNull(),
    received: bigint({ mode: 'number' }).notNull().default(0),
    delivery: text({ enum: ['not_sent', 'sent'] })
      .notNull()
      .default('not_sent'),
    sessionGeneration: integer('session_generation'),
    upstreamName: text('upstream_name'),
    expiresAt: at('expires_at').notNull(),
  },
  t => [index('upload_spools_spool').on(t.spool), index('upload_spools_expires').on(t.expiresAt)],
)

/** `nextPollAt` decides when a render is looked at again; claiming it moves it ahead, which is the lease. */
export const renders = pgTable(
  'renders',
  {
    id: id().primaryKey(),
    projectId: projectId(),
    userId: id('user_id').notNull(),
    platform: text().notNull(),
    requestKey: text('request_key'),
    state: text({
      enum: ['queued', 'submitting', 'rendering', 'completed', 'failed', 'cancelled'],
    }).notNull(),
    progress: integer().notNull().default(0),
    attempts: integer().notNull().default(0),
    format: text().notNull(),
    quality: text().notNull(),
    revision: integer().notNull(),
    /** The draft exactly as the upstream sent it; it is submitted byte for byte. */
    draft: text(),
    problem: jsonb().$type<Problem>(),
    fileUrl: text('file_url'),
    fileBytes: bigint('file_bytes', { mode: 'number' }),
    durationMs: integer('duration_ms'),
    cancelRequestedAt: at('cancel_requested_at'),
    polls: integer().notNull().default(0),
    nextPollAt: at('next_poll_at'),
    /** The upstream takes the user's token no more: nothing goes on before they have come back. */
    needsUserSince: at('needs_user_since'),
    /** From then on it counts as lost, unless it waits for its user. */
    followUntil: at('follow_until'),
    lease: uuid(),
    /** The trace that its steps go on in (W3C). */
    traceparent: text(),
    createdAt: at('created_at').notNull().defaultNow(),
    submittedAt: at('submitted_at'),
    completedAt: at('completed_at'),
  },
  t => [
    index('renders_user').on(t.userId, t.id),
    uniqueIndex('renders_request_key').on(t.userId, t.requestKey),
    index('renders_project').on(t.projectId, t.id),
    index('renders_due').on(t.nextPollAt).where(sql`next_poll_at is not null`),
    check('renders_ended', sql`(state in ('completed', 'failed', 'cancelled')) = (next_poll_at is null)`),
  ],
)

/** One submission upstream, written before its first byte leaves. `upstreamId` is ours and never used twice. */
export const renderAttempts = pgTable(
  'render_attempts',
  {
    renderId: id('render_id')
      .notNull()
      .references(() => renders.id, { onDelete: 'cascade' }),
    number: integer().notNull(),
    upstreamId: text('upstream_id').notNull(),
    sessionId: text('session_id').notNull(),
    delivery: text({ enum: ['not_sent', 'sent', 'acknowledged', 'unknown'] }).notNull(),
    unknownReads: integer('unknown_reads').notNull().default(0),
    outcome: text({ enum: ['completed', 'failed', 'cancelled', 'lost'] }),
    createdAt: at('created_at').notNull().defaultNow(),
    endedAt: at('ended_at'),
  },
  t => [
    primaryKey({ name: 'render_attempts_pkey', columns: [t.renderId, t.number] }),
    uniqueIndex('render_attempts_upstream_id').on(t.upstreamId),
  ],
)

export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    userId: owner(),
    route: text().notNull(),
    key: text().notNull(),
    bodyHash: bytea('body_hash').notNull(),
    status: integer(),
    headers: jsonb().$type<Record<string, string>>(),
    body: text(),
    lockedUntil: at('locked_until').notNull(),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  t => [
    primaryKey({ name: 'idempotency_keys_pkey', columns: [t.userId, t.route, t.key] }),
    index('idempotency_keys_created').on(t.createdAt),
  ],
)

/** Written by the rate limiter alone. Unlogged, which drizzle cannot say. */
export const rateLimits = pgTable(
  'rate_limits',
  {
    key: varchar({ length: 255 }).primaryKey(),
    points: integer().notNull().default(0),
    expire: bigint({ mode: 'number' }),
  },
  t => [index('rate_limits_expire').on(t.expire)],
)
