import { sql } from 'drizzle-orm'
import t from 'tap'
import { createSessions } from '../../../src/services/users/sessions.ts'
import { createUsers, toUser } from '../../../src/services/users/users.ts'
import { fileDatabase } from '../accounts/stage.ts'

t.test('a guest needs nothing, not even an account at the backend', async t => {
  const { database } = await fileDatabase(t)
  const { db } = database
  const sessions = createSessions({ db })
  const { user, token } = await createUsers({ db, sessions }).createGuest({
    delivery: 'cookie',
    language: 'zh',
  })
  t.match(user, { id: /^[0-9a-f-]{36}$/, kind: 'guest', language: 'zh' })
  t.notOk('email' in user)
  t.same(toUser((await sessions.find(token))!.user), user)
  t.same((await db.execute(sql`select * from upstream_accounts where user_id = ${user.id}`)).rows, [])
})

t.test('a user without a session is not left behind', async t => {
  const { database } = await fileDatabase(t)
  const { db } = database
  const broken = { ...createSessions({ db }), open: () => Promise.reject(new Error('full')) }
  const users = createUsers({ db, sessions: broken })
  await t.rejects(users.createGuest({ delivery: 'bearer', language: 'fi' }), { message: 'full' })
  t.same((await db.execute(sql`select * from users where language = 'fi'`)).rows, [])
})
