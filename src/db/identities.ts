import { and, eq, sql } from 'drizzle-orm'
import type { Db } from './client.ts'
import { identities, users } from './schema.ts'
import type { UserRow } from './users.ts'

export interface Identity {
  issuer: string
  subject: string
}

/** Until the transaction ends, nobody else signs in as this identity: a first sign-in makes one user, not two. */
export async function lockIdentity(db: Db, { issuer, subject }: Identity): Promise<void> {
  await db.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`${issuer} ${subject}`}, 0))`)
}

export async function findUserByIdentity(
  db: Db,
  { issuer, subject }: Identity,
): Promise<UserRow | undefined> {
  const [row] = await db
    .select({ user: users })
    .from(identities)
    .innerJoin(users, eq(users.id, identities.userId))
    .where(and(eq(identities.issuer, issuer), eq(identities.subject, subject)))
  return row?.user
}

export async function insertIdentity(db: Db, identity: Identity & { userId: string }): Promise<void> {
  await db.insert(identities).values(identity)
}

/** The user if it is still a guest, locked until the transaction ends. */
export async function lockGuest(db: Db, userId: string): Promise<UserRow | undefined> {
  const [row] = await db
    .select()
    .from(users)
    .where(and(eq(users.id, userId), eq(users.kind, 'guest')))
    .for('update')
  return row
}

export async function turnIntoAccount(db: Db, userId: string, email: string | null): Promise<UserRow> {
  const [row] = await db.update(users).set({ kind: 'account', email }).where(eq(users.id, userId)).returning()
  return row!
}

export async function hasUnfinishedWork(db: Db, userId: string): Promise<boolean> {
  const { rows } = await db.execute(sql`
    select 1 from runs where user_id = ${userId} and state in ('queued', 'running', 'reconciling')
    union all select 1 from renders where user_id = ${userId} and next_poll_at is not null
    union all select 1 from uploads where user_id = ${userId} and state in ('receiving', 'forwarding')
    limit 1`)
  return rows.length > 0
}

/** Gives all that one user has to another. Request keys are not taken along: the other may have used the same. */
export async function giveEverything(db: Db, from: string, to: string): Promise<void> {
  await db.execute(sql`update projects set user_id = ${to} where user_id = ${from}`)
  await db.execute(sql`update runs set user_id = ${to}, request_key = null where user_id = ${from}`)
  await db.execute(sql`update renders set user_id = ${to}, request_key = null where user_id = ${from}`)
  await db.execute(sql`update uploads set user_id = ${to} where user_id = ${from}`)
}

export async function deleteUser(db: Db, userId: string): Promise<void> {
  await db.delete(users).where(eq(users.id, userId))
}
