import { sql } from 'drizzle-orm'
import t from 'tap'
import { createTokenVault } from '../../../src/services/accounts/token-vault.ts'
import type { Credential } from '../../../src/services/upstream/client.ts'
import type { Outcome } from '../../../src/services/upstream/failures.ts'
import { KEY, problemOf, setStage } from './stage.ts'

const OK = { kind: 'ok', value: 'done' } as const

/** Looks at the credential instead of calling anybody. */
function spy() {
  const seen: Credential[] = []
  const send = async (credential: Credential) => {
    seen.push(credential)
    return OK
  }
  return { seen, send }
}

t.test('fifty calls on two instances that all need the first token', async t => {
  const { accounts, createInstance, alice, heard, accountOf, upstream } = await setStage(t)
  const other = (await createInstance()).accounts
  t.same(await accounts.status(alice.userId), { kind: 'none', state: 'none' })
  const { seen, send } = spy()
  const outcomes = await Promise.all(
    Array.from({ length: 50 }, (_, i) => (i % 2 ? accounts : other).call(alice, send)),
  )
  t.ok(outcomes.every(({ kind }) => kind === 'ok'))
  t.equal(heard('mint').length, 1, 'minted once')
  t.equal(new Set(seen.map(({ token }) => token)).size, 1)
  t.match(seen[0], { token: /^nmv_usr_/, platform: 'web' })
  t.match(await upstream.credits(seen[0]!), { kind: 'ok' }, 'and the token is a good one')
  t.match(await accountOf(alice.userId), { kind: 'anonymous', state: 'ready', generation: 1, mints: 1 })
  t.same(await accounts.status(alice.userId), { kind: 'anonymous', state: 'ready' })
})

t.test('nothing is minted before it is needed, and each user has an account of their own', async t => {
  const { accounts, createCaller, alice, heard, accountOf } = await setStage(t)
  const bob = await createCaller('zh', 'ios')
  await accounts.status(alice.userId)
  await accounts.userProblem('credits_exhausted', alice.userId, 'en')
  t.equal(heard('mint').length, 0)
  const { seen, send } = spy()
  await accounts.call(alice, send)
  await accounts.call(bob, send)
  await accounts.call(alice, send)
  t.match(heard('mint'), [{ platform: 'web' }, { platform: 'ios' }])
  t.equal(new Set(seen.map(({ token }) => token)).size, 2)
  const [a, b] = [await accountOf(alice.userId), await accountOf(bob.userId)]
  t.not(a.clientId, b.clientId)
  t.not(a.upstreamUserId, b.upstreamUserId)
})

t.test('a dead token is renewed once for all who noticed, and each call is made once more', async t => {
  const { accounts, createInstance, alice, sandbox, heard, accountOf, upstream } = await setStage(t)
  const other = (await createInstance()).accounts
  await accounts.call(alice, spy().send)
  sandbox.faults.revokeToken('all')
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, (_, i) => (i % 2 ? accounts : other).call(alice, c => upstream.credits(c))),
  )
  t.ok(outcomes.every(({ kind }) => kind === 'ok'))
  const [first, second, ...more] = heard('mint')
  t.same(more, [], 'renewed once')
  t.equal(second!.clientId, first!.clientId, 'for the same client')
  const answers = heard('credits').map(({ answer }) => answer)
  t.equal(answers.filter(answer => answer === 'ok').length, 20, 'each call came through')
  t.ok(answers.length <= 40, 'no call was made more than twice')
  t.match(await accountOf(alice.userId), { generation: 2, mints: 2, state: 'ready' })
})

t.test('a token that has run out is not even tried', async t => {
  const { accounts, alice, sandbox, heard, db, upstream } = await setStage(t)
  await accounts.call(alice, spy().send)
  sandbox.faults.revokeToken('all')
  await db.execute(sql`update upstream_accounts set token_expires_at = now() - interval '1 second'`)
  t.match(await accounts.call(alice, c => upstream.credits(c)), { kind: 'ok' })
  t.equal(heard('mint').length, 2)
  t.match(heard('credits'), [{ answer: 'ok' }])
})

t.test('a fresh token that is refused too: the user is told, and no further token is asked for', async t => {
  const { accounts, alice, heard, accountOf, sandbox, upstream } = await setStage(t)
  await accounts.call(alice, spy().send)
  const refuse = async (): Promise<Outcome<never>> => ({ kind: 'auth' })
  sandbox.faults.revokeToken('all')
  t.same(await accounts.call(alice, refuse), { kind: 'auth' })
  t.equal(heard('mint').length, 2)
  t.equal((await accountOf(alice.userId)).state, 'reauth_required')
  t.same(await accounts.status(alice.userId), { kind: 'anonymous', state: 'reauth_required' })
  t.match(await accounts.problem({ kind: 'auth' }, alice.userId, 'en'), {
    code: 'reauth_required',
    status: 409,
    userState: { action: { kind: 'link_account' } },
  })

  sandbox.faults.revokeToken('all')
  for (let i = 0; i < 3; i++) t.same(await accounts.call(alice, c => upstream.credits(c)), { kind: 'auth' })
  t.equal(heard('mint').length, 2, 'ten tokens a week are all there are')
})

t.test('a refusal that was the backend’s mistake: the account is ready again once it answers', async t => {
  const { accounts, alice, heard, sandbox, upstream } = await setStage(t)
  await accounts.call(alice, spy().send)
  sandbox.faults.revokeToken('all')
  sandbox.faults.add({ on: 'credits', answer: 'code', code: 1001, skip: 1 })
  t.same(await accounts.call(alice, c => upstream.credits(c)), { kind: 'auth' })
  t.match(await accounts.status(alice.userId), { state: 'reauth_required' })
  t.match(await accounts.call(alice, c => upstream.credits(c)), { kind: 'ok' })
  t.match(await accounts.status(alice.userId), { state: 'ready' })
  sandbox.faults.revokeToken('all')
  t.match(await accounts.call(alice, c => upstream.credits(c)), { kind: 'ok' }, 'and may be renewed again')
  t.equal(heard('mint').length, 3)
})

t.test('too many tokens for this address: nobody asks again before the time to come back', async t => {
  const { accounts, createInstance, alice, heard, accountOf, db } = await setStage(t, {
    sandbox: { mintsPerIp: 0 },
  })
  const other = (await createInstance()).accounts
  const before = Date.now()
  const outcome = await accounts.call(alice, spy().send)
  t.match(outcome, { kind: 'rate_limited', retryAfterMs: 30_000 })
  for (const each of [accounts, other, other]) {
    const again = await each.call(alice, spy().send)
    t.ok(again.kind === 'rate_limited' && again.retryAfterMs! > 25_000 && again.retryAfterMs! <= 30_000)
  }
  t.equal(heard('mint').length, 1)
  const { retryAt } = await accountOf(alice.userId)
  t.ok(retryAt!.getTime() >= before + 30_000 && retryAt!.getTime() <= Date.now() + 30_000)
  t.same(await accounts.status(alice.userId), {
    kind: 'anonymous',
    state: 'rate_limited',
    retryAt: retryAt!.toISOString(),
  })

  await db.execute(sql`update upstream_accounts set retry_at = now() - interval '1 second'`)
  await accounts.call(alice, spy().send)
  t.equal(heard('mint').length, 2, 'after it, once more')
  t.equal(new Set(heard('mint').map(({ clientId }) => clientId)).size, 1)
})

t.test('a limit that is over within the request is waited for', async t => {
  const { accounts, alice, sandbox, heard } = await setStage(t)
  sandbox.faults.add({ on: 'mint', answer: 'status', status: 429, retryAfter: 0 })
  t.same(await accounts.call(alice, spy().send), OK)
  t.match(heard('mint'), [{ answer: 'http 429' }, { answer: 'ok' }])
})

t.test('a token that died early is asked for once; on a limit the account waits', async t => {
  const { accounts, alice, sandbox, heard, accountOf, upstream } = await setStage(t)
  await accounts.call(alice, spy().send)
  sandbox.faults.revokeToken('all')
  sandbox.faults.add({ on: 'mint', answer: 'status', status: 429, times: 5 })
  const before = Date.now()
  t.match(await accounts.call(alice, c => upstream.credits(c)), { kind: 'rate_limited' })
  t.equal(heard('mint').length, 2, 'the first one and one renewal')
  const { retryAt, state } = await accountOf(alice.userId)
  t.equal(state, 'rate_limited')
  t.ok(retryAt!.getTime() >= before + 3_600_000, 'without another word from the backend, an hour')
})

t.test('a mint whose answer was lost: its client id was kept, and is used again', async t => {
  const { accounts, alice, sandbox, heard, accountOf } = await setStage(t)
  sandbox.faults.add({ on: 'mint', answer: 'reset' })
  t.match(await accounts.call(alice, spy().send), { kind: 'transient', delivered: 'unknown' })
  t.match(heard('mint'), [{ accepted: true }])
  const { clientId, state } = await accountOf(alice.userId)
  t.equal(heard('mint')[0]!.clientId, clientId)
  t.equal(state, 'none')
  t.match(
    await accounts.call(alice, spy().send),
    { kind: 'rate_limited' },
    'the backend gave it away already',
  )
  t.same(new Set(heard('mint').map(entry => entry.clientId)), new Set([clientId]))
})

t.test('the client id is in the row while the backend is still thinking', async t => {
  const { accounts, alice, sandbox, heard, accountOf } = await setStage(t)
  sandbox.faults.add({ on: 'mint', answer: 'slow', ms: 200 })
  const call = accounts.call(alice, spy().send)
  while (heard('mint').length === 0) await new Promise(setImmediate)
  t.match(await accountOf(alice.userId), { clientId: heard('mint')[0]!.clientId, sealedToken: null })
  t.same(await call, OK)
})

t.test('an instance that died while it minted holds the others back for a moment only', async t => {
  const { accounts, alice, heard, accountOf, db } = await setStage(t)
  await db.execute(sql`insert into upstream_accounts (user_id, kind, client_id, minting_until)
    values (${alice.userId}, 'anonymous', gen_random_uuid(), now() + interval '150 ms')`)
  t.same(await accounts.call(alice, spy().send), OK)
  t.match(heard('mint'), [{ clientId: (await accountOf(alice.userId)).clientId }])
})

t.test('the user’s own account is renewed by the user alone', async t => {
  const { accounts, alice, sandbox, heard, accountOf, db, upstream } = await setStage(t)
  const { token } = sandbox.state.issueToken()
  const sealed = createTokenVault([KEY]).seal(token, alice.userId)
  await db.execute(sql`insert into upstream_accounts (user_id, kind, client_id, sealed_token, generation, state)
    values (${alice.userId}, 'linked', gen_random_uuid(), ${sealed}, 1, 'ready')`)
  t.match(await accounts.call(alice, c => upstream.credits(c)), { kind: 'ok' })
  sandbox.faults.revokeToken('all')
  t.same(await accounts.call(alice, c => upstream.credits(c)), { kind: 'auth' })
  t.match(await accountOf(alice.userId), { kind: 'linked', state: 'reauth_required', generation: 1 })
  t.equal(heard('mint').length, 0)
})

t.test('one shared account is nobody’s to renew', async t => {
  const { createInstance, alice, sandbox, heard, accountOf, upstream } = await setStage(t, {
    sharedToken: 'shared',
  })
  const { accounts } = await createInstance()
  const { seen, send } = spy()
  await accounts.call(alice, send)
  t.equal(seen[0]!.token, 'shared')
  t.same(await accounts.call(alice, c => upstream.credits(c)), { kind: 'auth' })
  t.equal(heard('credits').length, 1)
  await accounts.learnUpstreamUserId(alice.userId, 'user_1')
  t.same(await accounts.status(alice.userId), { kind: 'shared', state: 'ready' })
  t.match(await accounts.problem({ kind: 'auth' }, alice.userId, 'en'), { code: 'upstream_unavailable' })
  t.equal(heard('mint').length, 0)
  t.equal(sandbox.journal().length, 1)
  t.equal(await accountOf(alice.userId), undefined)
})

t.test('a token is sealed where it is kept', async t => {
  const { accounts, alice, dump, accountOf, upstream, projects, timelines } = await setStage(t)
  const { seen, send } = spy()
  await accounts.call(alice, send)
  const project = await projects.create(alice.userId, { language: 'en' })
  await timelines.view(alice.userId, project.id, 'web')
  t.match(await accounts.call(alice, c => upstream.credits(c)), { kind: 'ok' })
  const text = await dump()
  const { sealedToken, clientId } = await accountOf(alice.userId)
  t.match(text, clientId, 'the dump shows what there is')
  t.match(text, sealedToken!.slice(0, 30))
  t.notMatch(text, seen[0]!.token)
  t.notMatch(text, /nmv_usr_/)
})

t.test('a token that does not open: nothing is sent, nothing minted, and the user is told', async t => {
  const { accounts, createCaller, alice, heard, accountOf, db } = await setStage(t)
  const bob = await createCaller()
  const { seen, send } = spy()
  await accounts.call(alice, send)
  await accounts.call(bob, send)
  const [hers, his] = [await accountOf(alice.userId), await accountOf(bob.userId)]
  const seal = (userId: string, sealed: string) =>
    db.execute(sql`update upstream_accounts set sealed_token = ${sealed} where user_id = ${userId}`)
  const flipped = hers.sealedToken!.replace(/.$/, end => (end === 'A' ? 'Q' : 'A'))
  for (const sealed of [his.sealedToken!, flipped, 'test.x.y', 'test..', hers.sealedToken!.slice(0, -4)]) {
    await seal(alice.userId, sealed)
    const outcome = await accounts.call(alice, send)
    t.same(outcome, { kind: 'auth' }, 'closed')
    if (outcome.kind !== 'auth') continue
    t.match(await accounts.problem(outcome, alice.userId, 'en'), {
      code: 'reauth_required',
      userState: { action: { kind: 'link_account' } },
    })
  }
  await seal(alice.userId, hers.sealedToken!.replace('test.', 'gone.'))
  const missing = await accounts.call(alice, send)
  t.match(missing, { kind: 'transient', delivered: 'no' }, 'an operator can mend it')
  await seal(alice.userId, hers.sealedToken!)
  t.same(await accounts.call(alice, send), OK, 'and then it is mended')
  t.equal(seen.length, 3)
  t.equal(heard('mint').length, 2, 'one for each of them, as before')
})

t.test('what the upstream refuses becomes words for this user', async t => {
  const { accounts, alice, createCaller, accountOf } = await setStage(t)
  const bob = await createCaller()
  await accounts.call(alice, spy().send)
  const { upstreamUserId } = await accountOf(alice.userId)
  const refused = { kind: 'refused', code: 'credits_exhausted' } as const
  t.match((await accounts.problem(refused, alice.userId, 'en')).userState?.action, {
    kind: 'register',
    url: `https://nemovideo.example/register?bind=${upstreamUserId}`,
  })
  await accounts.learnUpstreamUserId(alice.userId, 'anon_other')
  t.equal((await accountOf(alice.userId)).upstreamUserId, upstreamUserId, 'what is known stays')
  t.match((await accounts.problem(refused, bob.userId, 'en')).userState?.action, {
    url: 'https://nemovideo.example/register',
  })
  t.match(await problemOf(accounts.valueOrThrow(refused, alice.userId, 'en')), {
    code: 'credits_exhausted',
    status: 402,
    userState: { action: { kind: 'register' } },
  })
  const limited = { kind: 'rate_limited', retryAfterMs: 5_000 } as const
  t.match(await problemOf(accounts.valueOrThrow(limited, alice.userId, 'en')), {
    code: 'rate_limited',
    retryAfterMs: 5_000,
  })
  t.equal(await accounts.valueOrThrow(OK, alice.userId, 'en'), 'done')
})
