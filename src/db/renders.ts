import { and, desc, eq, getTableColumns, inArray, isNull, lt, sql } from 'drizzle-orm'
import { type Db, prepared } from './client.ts'
import { projects, renders } from './schema.ts'
import { asUser } from './tenants.ts'

// A draft can be megabytes long, and a render is read far oftener than it is submitted.
const { draft: _, ...columns } = getTableColumns(renders)
export const fields = { ...columns, hasDraft: sql<boolean>`${renders.draft} is not null` }

export type RenderRow = Omit<typeof renders.$inferSelect, 'draft'> & { hasDraft: boolean }
export type RenderView = RenderRow & { projectRevision: number }
export type RenderState = RenderRow['state']

// Columns keep milliseconds and round: without the truncation, `now()` could be stored as a moment to come.
export const fromNow = (ms: number) =>
  sql`date_trunc('milliseconds', now()) + ${ms} * interval '1 millisecond'`

/** A render that is due at once. */
export async function insertRender(
  db: Db,
  render: Omit<typeof renders.$inferInsert, 'state' | 'nextPollAt'>,
): Promise<RenderRow> {
  const [row] = await db
    .insert(renders)
    .values({ ...render, state: 'queued', nextPollAt: fromNow(0) })
    .returning(fields)
  return row!
}

const view = (db: Db) =>
  db
    .select({ ...fields, projectRevision: projects.revision })
    .from(renders)
    .innerJoin(projects, and(eq(projects.id, renders.projectId), isNull(projects.deletedAt)))

const ownRender = prepared(db =>
  view(db)
    .where(and(eq(renders.id, sql.placeholder('id')), eq(renders.userId, sql.placeholder('userId'))))
    .prepare('find_render'),
)

export async function findRender(db: Db, userId: string, id: string): Promise<RenderView | undefined> {
  const [row] = await asUser(db, userId, own => ownRender(own).execute({ id, userId }))
  return row
}

/** Those of these renders whose film somebody may still ask for. */
export async function findWanted(db: Db, ids: string[]): Promise<RenderRow[]> {
  if (ids.length === 0) return []
  return view(db).where(and(inArray(renders.id, ids), eq(renders.state, 'completed')))
}

/** The render that the same request made before. */
export async function findRequestedRender(
  db: Db,
  userId: string,
  requestKey: string,
): Promise<RenderView | undefined> {
  const [row] = await asUser(db, userId, own =>
    view(own).where(and(eq(renders.requestKey, requestKey), eq(renders.userId, userId))),
  )
  return row
}

/** Newest first; `after` is the id of the last render of the page before. */
export async function listRenders(
  db: Db,
  userId: string,
  page: { state?: RenderState; projectId?: string; after?: string; limit: number },
): Promise<RenderView[]> {
  return asUser(db, userId, own =>
    view(own)
      .where(
        and(
          eq(renders.userId, userId),
          page.state ? eq(renders.state, page.state) : undefined,
          page.projectId ? eq(renders.projectId, page.projectId) : undefined,
          page.after ? lt(renders.id, page.after) : undefined,
        ),
      )
      .orderBy(desc(renders.id))
      .limit(page.limit),
  )
}

/** The project's waiting renders are looked at again at once. */
export async function hurryQueued(db: Db, projectId: string): Promise<void> {
  await db
    .update(renders)
    .set({ nextPollAt: fromNow(0) })
    .where(and(eq(renders.projectId, projectId), eq(renders.state, 'queued'), isNull(renders.lease)))
}

/** Cancels a render that nobody has begun with; whoever looks at it just now loses the claim. */
export async function cancelQueued(db: Db, id: string): Promise<RenderRow | undefined> {
  return change(db, id, 'queued', {
    state: 'cancelled',
    problem: null,
    needsUserSince: null,
    lease: null,
    nextPollAt: null,
  })
}

/** Notes the wish; an unclaimed render is looked at for it at once. */
export async function requestCancel(db: Db, id: string): Promise<void> {
  const nextPollAt = sql`case when ${renders.lease} is null then ${fromNow(0)} else ${renders.nextPollAt} end`
  await db
    .update(renders)
    .set({ cancelRequestedAt: sql`coalesce(${renders.cancelRequestedAt}, now())`, nextPollAt })
    .where(and(eq(renders.id, id), inArray(renders.state, ['submitting', 'rendering'])))
}

/** A failed render begins anew, with the draft it has. */
export async function requeueFailed(
  db: Db,
  id: string,
  by: { platform: string; traceparent: string | null },
): Promise<RenderRow | undefined> {
  return change(db, id, 'failed', {
    ...by,
    state: 'queued',
    progress: 0,
    polls: 0,
    problem: null,
    cancelRequestedAt: null,
    submittedAt: null,
    nextPollAt: fromNow(0),
  })
}

async function change(db: Db, id: string, from: RenderState, to: Record<string, unknown>) {
  const [row] = await db
    .update(renders)
    .set(to)
    .where(and(eq(renders.id, id), eq(renders.state, from)))
    .returning(fields)
  return row
}

/** A render that was given up has ended well after all. Undefined when it is no lost one (any more). */
export async function completeLost(
  db: Db,
  id: string,
  film: Partial<typeof renders.$inferInsert>,
): Promise<RenderRow | undefined> {
  const [row] = await db
    .update(renders)
    .set({ ...film, state: 'completed', completedAt: sql`now()` })
    .where(
      and(eq(renders.id, id), eq(renders.state, 'failed'), sql`${renders.problem}->>'code' = 'render_lost'`),
    )
    .returning(fields)
  return row
}

export async function storeFileUrl(db: Db, id: string, fileUrl: string): Promise<void> {
  await db
    .update(renders)
    .set({ fileUrl })
    .where(and(eq(renders.id, id), eq(renders.state, 'completed')))
}

/** The revisions of those of these projects that nobody else has locked now; locked until the transaction ends. */
export async function lockFreeProjects(db: Db, ids: string[]): Promise<Map<string, number>> {
  const rows = await db
    .select({ id: projects.id, revision: projects.revision })
    .from(projects)
    .where(inArray(projects.id, ids))
    .for('update', { skipLocked: true })
  return new Map(rows.map(({ id, revision }) => [id, revision]))
}

/** Every transaction on a render begins with this: one order of locks, so that two cannot wait for each other. */
export async function lockProjectOf(db: Db, projectId: string) {
  const [row] = await db
    .select({
      revision: projects.revision,
      language: projects.language,
      sessionId: projects.sessionId,
      deletedAt: projects.deletedAt,
    })
    .from(projects)
    .where(eq(projects.id, projectId))
    .for('update')
  return row
}
