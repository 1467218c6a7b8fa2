import { sql } from 'drizzle-orm'
import t from 'tap'
import { listAccounts, sweepAccounts } from '../../../src/db/account-links.ts'
import { loadProject } from '../../../src/db/projects.ts'
import type { Caller } from '../../../src/services/accounts/accounts.ts'
import type { Credential } from '../../../src/services/upstream/client.ts'
import { problemOf, setStage } from './stage.ts'

type Stage = Awaited<ReturnType<typeof setStage>>

/** A project whose session is open, and whose account that is. */
async function openProject({ projects, timelines, db }: Stage, caller: Caller) {
  const { id } = await projects.create(caller.userId, { language: 'en' })
  const read = await timelines.read({ id }, caller)
  if (read.kind !== 'ok') throw new Error(read.kind)
  return { id, accountId: (await loadProject(db, id))!.accountId }
}

const soon = async (isSo: () => boolean) => {
  while (!isSo()) await new Promise(setImmediate)
}

t.test('every instance knows at once who serves, and where a project lives', async t => {
  const stage = await setStage(t)
  const { accounts, createInstance, alice, sandbox, heard, upstream } = stage
  const other = await createInstance()
  const old = await openProject(stage, alice)
  const own = sandbox.state.issueToken(500)
  await accounts.link(alice, own.token, 'en')
  t.match(await other.accounts.call(alice, c => upstream.credits(c)), { value: { total: 500 } })
  t.match(await other.timelines.read(old, alice), { kind: 'ok' })
  t.not((await openProject({ ...stage, ...other }, alice)).accountId, old.accountId)
  await other.accounts.unlink(alice.userId)
  t.match(await accounts.call(alice, c => upstream.credits(c)), { value: { total: 100 } })
  t.equal(heard('session').length, 2)
  t.equal(heard('mint').length, 1)
})

t.test('a session that is being made while the user links belongs to whom it was made for', async t => {
  const stage = await setStage(t)
  const { accounts, projects, timelines, alice, sandbox, heard, db } = stage
  const { accountId } = await openProject(stage, alice)
  const { id } = await projects.create(alice.userId, { language: 'en' })
  sandbox.faults.add({ on: 'session', answer: 'slow', ms: 200 })
  const reading = timelines.read({ id }, alice)
  await soon(() => heard('session').length === 2)
  await accounts.link(alice, sandbox.state.issueToken().token, 'en')
  t.match(await reading, { kind: 'ok' })
  t.equal((await loadProject(db, id))!.accountId, accountId)
  t.match(await timelines.read({ id }, alice), { kind: 'ok' })
  t.equal(heard('session').length, 2, 'none was made anew')
})

t.test('a token that is renewed while the user links goes to the project that waits for it', async t => {
  const stage = await setStage(t)
  const { accounts, timelines, alice, sandbox, heard, upstream } = stage
  const project = await openProject(stage, alice)
  const own = sandbox.state.issueToken(500)
  sandbox.faults.revokeToken(sandbox.state.world.accounts[0]!.userId)
  sandbox.faults.add({ on: 'mint', answer: 'slow', ms: 200 })
  const asking = accounts.call(alice, c => upstream.credits(c))
  const reading = timelines.read(project, alice)
  await soon(() => heard('mint').length === 2)
  await accounts.link(alice, own.token, 'en')
  t.match(await asking, { kind: 'ok' })
  t.match(await reading, { kind: 'ok' })
  t.equal(heard('session').length, 1, 'the project did not begin anew')
  t.equal(heard('mint').length, 2)
})

t.test('which account a token is of is asked of its sessions', async t => {
  const stage = await setStage(t)
  const { accounts, timelines, alice, sandbox, heard, db } = stage
  const project = await openProject(stage, alice)
  const [first, newest] = [sandbox.state.issueToken(), await openProject(stage, alice)]
  const { sessionId } = (await loadProject(db, newest.id))!
  await accounts.link(alice, first.token, 'en')
  t.match(
    (await listAccounts(db, alice.userId)).map(({ kind, serves }) => [kind, serves]),
    [
      ['anonymous', false],
      ['linked', true],
    ],
    'one that knows none of them is another account',
  )

  const { token } = sandbox.state.reissueToken(sandbox.state.world.accounts[0]!.userId)
  sandbox.faults.add({ on: 'state', answer: 'status', status: 503 })
  t.match(await problemOf(accounts.link(alice, token, 'en')), { code: 'upstream_unavailable' })
  t.equal((await listAccounts(db, alice.userId)).length, 2, 'nothing is half done')

  sandbox.faults.dropSession(sessionId!)
  await accounts.link(alice, token, 'en')
  t.match(
    (await listAccounts(db, alice.userId)).filter(({ serves }) => serves),
    [{ id: project.accountId, kind: 'linked' }],
    'one session that the upstream has forgotten says nothing',
  )
  t.match(await timelines.read(project, alice), { kind: 'ok' })
  t.equal(heard('session').length, 2)
})

t.test('two tokens that are linked at once: one of them serves', async t => {
  const { accounts, createInstance, alice, sandbox, db } = await setStage(t)
  const other = (await createInstance()).accounts
  const tokens = [1, 2, 3, 4].map(() => sandbox.state.issueToken().token)
  await Promise.all(tokens.map((token, i) => (i % 2 ? accounts : other).link(alice, token, 'en')))
  t.equal((await listAccounts(db, alice.userId)).filter(({ serves }) => serves).length, 1)
  t.match(await accounts.status(alice), { kind: 'linked', state: 'ready' })
  await Promise.all([accounts.unlink(alice.userId), other.unlink(alice.userId)])
  t.match(await accounts.status(alice), { kind: 'anonymous', state: 'none' })
  const left = await listAccounts(db, alice.userId)
  t.same(
    left.filter(({ sealedToken }) => sealedToken !== null),
    [],
    'no linked token is kept',
  )
})

t.test('the shared account keeps the projects that were made in it', async t => {
  const stage = await setStage(t, { sharedToken: 'shared' })
  const { accounts, timelines, alice, sandbox, heard } = stage
  sandbox.state.issueToken()
  sandbox.state.world.accounts[0]!.token = 'shared'
  const project = await openProject(stage, alice)
  t.equal(project.accountId, null)
  await accounts.link(alice, sandbox.state.issueToken().token, 'en')
  t.match(await timelines.read(project, alice), { kind: 'ok' })
  t.ok((await openProject(stage, alice)).accountId)
  t.equal(heard('session').length, 2)
  t.equal(heard('mint').length, 0)
})

t.test('a guest brings all its accounts along, also one whose token is being asked for', async t => {
  const stage = await setStage(t)
  const { accounts, createCaller, alice, sandbox, heard, db, timelines } = stage
  const guest = await createCaller()
  const projects = [await openProject(stage, guest), await openProject(stage, alice)]
  await accounts.link(guest, sandbox.state.issueToken().token, 'en')
  projects.push(await openProject(stage, guest))
  sandbox.faults.revokeToken(sandbox.state.world.accounts[0]!.userId)
  sandbox.faults.add({ on: 'mint', answer: 'slow', ms: 200 })
  const before = heard('mint').length
  const reading = timelines.read(projects[0]!, guest)
  await soon(() => heard('mint').length > before)
  await db.transaction(async tx => {
    await accounts.handOver(tx, guest.userId, alice.userId)
    await tx.execute(sql`update projects set user_id = ${alice.userId} where user_id = ${guest.userId}`)
    await tx.execute(sql`delete from users where id = ${guest.userId}`)
  })
  t.match(await reading, { kind: 'ok' })
  const minted = heard('mint').length
  for (const project of projects) t.match(await timelines.read(project, alice), { kind: 'ok' })
  t.equal(heard('mint').length, minted, 'the token that came late was kept')
  t.equal(heard('session').length, 3)
  t.match(await accounts.status(alice), { kind: 'anonymous' }, 'what served goes on serving')
})

t.test('whoever can write to the database gets no other user’s token', async t => {
  const stage = await setStage(t)
  const { accounts, createCaller, timelines, alice, db } = stage
  const mallory = await createCaller()
  const [hers, his] = [await openProject(stage, alice), await openProject(stage, mallory)]
  const seen: Credential[] = []
  await db.execute(sql`update projects set account_id = ${hers.accountId} where id = ${his.id}`)
  t.same(await timelines.read(his, mallory), { kind: 'auth' })
  await db.execute(sql`update upstream_accounts set user_id = ${mallory.userId}, serves = false
    where id = ${hers.accountId}`)
  const caller = { ...mallory, accountId: hers.accountId }
  const outcome = await accounts.call(caller, async credential => {
    seen.push(credential)
    return { kind: 'ok', value: null }
  })
  t.same(outcome, { kind: 'auth' })
  t.same(seen, [])
})

t.test('what is left of a user who is gone, and of accounts that nobody needs', async t => {
  const stage = await setStage(t)
  const { accounts, alice, sandbox, db } = stage
  const link = () => accounts.link(alice, sandbox.state.issueToken().token, 'en')
  const kept = [(await openProject(stage, alice)).accountId]
  await link()
  await link()
  kept.push((await openProject(stage, alice)).accountId)
  await link()
  kept.push((await openProject(stage, alice)).accountId)
  t.equal((await listAccounts(db, alice.userId)).length, 4)
  await sweepAccounts(db)
  t.equal((await listAccounts(db, alice.userId)).length, 4, 'a call may be under way with it')
  await db.execute(sql`update upstream_accounts set updated_at = now() - interval '2 days'`)
  await sweepAccounts(db)
  t.same((await listAccounts(db, alice.userId)).map(({ id }) => id).sort(), kept.sort())

  await db.execute(sql`delete from users where id = ${alice.userId}`)
  for (const table of ['projects', 'upstream_accounts'])
    t.same(
      (await db.execute(sql`select 1 from ${sql.identifier(table)} where user_id = ${alice.userId}`)).rows,
      [],
    )
})
