import { and, desc, eq, getTableColumns, isNull, lt, sql } from 'drizzle-orm'
import { type Db, LAST_ID, prepared } from './client.ts'
import { projects } from './schema.ts'
import { asNobody, asUser } from './tenants.ts'

/** A project without what may be large: its timeline and media. */
export type ProjectRow = Omit<ProjectStateRow, 'timeline' | 'media'>
export type ProjectStateRow = typeof projects.$inferSelect

const { timeline, media, ...fields } = getTableColumns(projects)

export async function insertProject(
  db: Db,
  project: { id: string; userId: string; name: string; language: string },
): Promise<ProjectRow> {
  const [row] = await asUser(db, project.userId, own =>
    own.insert(projects).values(project).returning(fields),
  )
  return row!
}

const ownProjects = prepared(db => {
  const asked = sql`${sql.placeholder('users')}, ${sql.placeholder('ids')}`
  const own = db.$with('own', fields).as(sql`select * from own_projects(${asked})`)
  return db.with(own).select().from(own).prepare('own_projects')
})

/** For each as it was asked, the user's own project; another's is not found. One statement for many users. */
export async function findProjects(
  db: Db,
  asked: { userId: string; id: string }[],
): Promise<(ProjectRow | undefined)[]> {
  const users = asked.map(({ userId }) => userId)
  const ids = asked.map(({ id }) => id)
  const rows = await asNobody(db, look => ownProjects(look).execute({ users, ids }))
  const found = new Map(rows.map(row => [row.id, row]))
  return asked.map(({ userId, id }) => {
    const row = found.get(id)
    return row?.userId === userId ? row : undefined
  })
}

/** For jobs, which act for whoever owns the project. */
export async function loadProject(db: Db, id: string): Promise<ProjectRow | undefined> {
  const [row] = await db.select(fields).from(projects).where(eq(projects.id, id))
  return row
}

export async function loadProjectState(db: Db, id: string): Promise<ProjectStateRow | undefined> {
  const [row] = await db.select().from(projects).where(eq(projects.id, id))
  return row
}

/** Locks the project's row: whoever holds it is the only one to change the project or to append to its log. */
export async function lockProject(db: Db, id: string): Promise<ProjectStateRow | undefined> {
  const [row] = await db.select().from(projects).where(eq(projects.id, id)).for('update')
  return row
}

const pageOfProjects = prepared(db =>
  db
    .select(fields)
    .from(projects)
    .where(
      and(
        eq(projects.userId, sql.placeholder('userId')),
        isNull(projects.deletedAt),
        lt(projects.id, sql.placeholder('after')),
      ),
    )
    .orderBy(desc(projects.id))
    .limit(sql.placeholder('limit'))
    .prepare('list_projects'),
)

/** Newest first; `after` is the id of the last project of the page before. */
export async function listProjects(
  db: Db,
  userId: string,
  after: string | undefined,
  limit: number,
): Promise<ProjectRow[]> {
  return asUser(db, userId, own => pageOfProjects(own).execute({ userId, after: after ?? LAST_ID, limit }))
}

export async function renameProject(db: Db, id: string, name: string): Promise<ProjectRow> {
  const [row] = await db
    .update(projects)
    .set({ name, lastActivityAt: sql`now()` })
    .where(eq(projects.id, id))
    .returning(fields)
  return row!
}

export async function deleteProject(db: Db, id: string): Promise<void> {
  await db.update(projects).set({ deletedAt: sql`now()` }).where(eq(projects.id, id))
}

/** Gives the project the upstream session that follows `generation`; false when somebody else has done so. */
export async function storeSession(
  db: Db,
  id: string,
  generation: number,
  session: { sessionId: string; taskId: string; accountId: string | null },
): Promise<boolean> {
  const rows = await db
    .update(projects)
    .set({ ...session, sessionGeneration: generation + 1 })
    .where(and(eq(projects.id, id), eq(projects.sessionGeneration, generation)))
    .returning({ id: projects.id })
  return rows.length > 0
}

export type ProjectStateChange = Pick<
  ProjectStateRow,
  'fingerprint' | 'timeline' | 'media' | 'summary' | 'exportable' | 'revision'
>

export async function storeState(db: Db, id: string, state: ProjectStateChange): Promise<ProjectStateRow> {
  const [row] = await db
    .update(projects)
    .set({ ...state, stateFetchedAt: sql`now()` })
    .where(eq(projects.id, id))
    .returning()
  return row!
}

export async function touchStateFetched(db: Db, id: string): Promise<void> {
  await db.update(projects).set({ stateFetchedAt: sql`now()` }).where(eq(projects.id, id))
}

/** A new upstream session begins with nothing: what was known of the old one is dropped. */
export async function clearState(db: Db, id: string): Promise<ProjectStateRow> {
  const [row] = await db
    .update(projects)
    .set({
      fingerprint: null,
      timeline: null,
      media: [],
      summary: null,
      exportable: false,
      revision: sql`${projects.revision} + 1`,
    })
    .where(eq(projects.id, id))
    .returning()
  return row!
}
