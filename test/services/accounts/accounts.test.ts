import { sql } from 'drizzle-orm'
import t from 'tap'
import { ensureAccount, storeToken } from '../../../src/db/accounts.ts'
import { createTokenVault } from '../../../src/services/accounts/token-vault.ts'
import type { Credential } from '../../../src/services/upstream/client.ts'
import { classify, type Outcome } from '../../../src/services/upstream/failures.ts'
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
  t.same(await accounts.status(alice), { kind: 'none', state: 'none' })
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
  t.same(await accounts.status(alice), { kind: 'anonymous', state: 'ready' })
})

t.test('an account that another instance has just made is used with its token', async t => {
  const { accounts, alice, db, heard, sandbox } = await setStage(t)
  const { token } = sandbox.state.issueToken()
  const sealedToken = createTokenVault([KEY]).seal(token, alice.userId)
  const { seen, send } = spy()
  let call: Promise<unknown> | undefined
  await db.transaction(async tx => {
    const made = await ensureAccount(tx, alice.userId)
    await storeToken(tx, made, { sealedToken, tokenExpiresAt: null, upstreamUserId: null })
    call = accounts.call(alice, send)
    const waits = sql`select 1 from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like '%upstream_accounts%'`
    while ((await db.execute(waits)).rows.length === 0) await new Promise(setImmediate)
  })
  t.match(await call, { kind: 'ok' })
  t.equal(seen[0]!.token, token)
  t.equal(heard('mint').length, 0)
})

t.test('nothing is minted before it is needed, and each user has an account of their own', async t => {
  const { accounts, createCaller, alice, heard, accountOf } = await setStage(t)
  const bob = await createCaller('zh', 'ios')
  await accounts.status(alice)
  await accounts.userProblem('credits_exhausted', alice, 'en')
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
  t.same(await accounts.status(alice), { kind: 'anonymous', state: 'reauth_required' })
  t.match(await accounts.problem({ kind: 'auth' }, alice, 'en'), {
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
  t.match(await accounts.status(alice), { state: 'reauth_required' })
  t.match(await accounts.call(alice, c => upstream.credits(c)), { kind: 'ok' })
  t.match(await accounts.status(alice), { state: 'ready' })
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
  t.same(await accounts.status(alice), {
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

t.test(
  'a mint whose answer was lost: spent, not repeated early, and then with the same client id',
  async t => {
    const { accounts, alice, sandbox, heard, accountOf, mintsOf, db } = await setStage(t, {
      rateLimitRetryMs: 30_000,
    })
    const comeBack = () =>
      db.execute(sql`update upstream_accounts set retry_at = now() where user_id = ${alice.userId}`)
    sandbox.faults.add({ on: 'mint', answer: 'reset' })
    t.match(await accounts.call(alice, spy().send), { kind: 'transient', delivered: 'unknown' })
    t.match(heard('mint'), [{ accepted: true }])
    const { clientId } = await accountOf(alice.userId)
    t.equal(heard('mint')[0]!.clientId, clientId)
    t.match(await mintsOf(alice.userId), [{ outcome: 'unknown', clientId }])

    for (let i = 0; i < 3; i++) t.match(await accounts.call(alice, spy().send), { kind: 'rate_limited' })
    t.equal(heard('mint').length, 1, 'nobody asks again at once')
    t.match(await accounts.status(alice), { state: 'rate_limited', retryAt: String })

    await comeBack()
    t.match(await accounts.call(alice, spy().send), { kind: 'rate_limited' }, 'it was given away already')
    t.match(
      (await mintsOf(alice.userId)).map(({ outcome }) => outcome),
      ['unknown', 'refused'],
    )
    t.same(new Set(heard('mint').map(entry => entry.clientId)), new Set([clientId]))
  },
)

t.test('answers that nobody can read, again and again: after the second one, an hour', async t => {
  const { accounts, alice, sandbox, accountOf, db } = await setStage(t)
  sandbox.faults.add({ on: 'mint', answer: 'html', status: 502, times: 2 })
  t.match(await accounts.call(alice, spy().send), { kind: 'transient' })
  await db.execute(sql`update upstream_accounts set retry_at = now() where user_id = ${alice.userId}`)
  t.match(await accounts.call(alice, spy().send), { kind: 'transient' })
  t.ok((await accountOf(alice.userId)).retryAt!.getTime() > Date.now() + 3_500_000)
})

t.test('a mint is written down before it is asked for', async t => {
  const { accounts, alice, sandbox, heard, mintsOf } = await setStage(t)
  sandbox.faults.add({ on: 'mint', answer: 'slow', ms: 200 })
  const call = accounts.call(alice, spy().send)
  while (heard('mint').length === 0) await new Promise(setImmediate)
  t.match(await mintsOf(alice.userId), [{ outcome: 'unknown' }])
  await call
  t.match(await mintsOf(alice.userId), [{ outcome: 'delivered' }])
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

const said = (message: string) => ({ status: 400, body: JSON.stringify({ code: 1, message }) })

// Every way of §5 to say that a token is dead.
const DEAD_TOKENS: { status: number; body: string }[] = [
  { status: 200, body: '{"code":1001,"message":"no"}' },
  { status: 403, body: '{"code":1010}' },
  { status: 200, body: '{"code":1011}' },
  { status: 401, body: '<html>Unauthorized</html>' },
  { status: 401, body: '{"detail":"Not authenticated"}' },
  said('Invalid authentication token'),
  said('invalid token'),
  said('The token is invalid or expired'),
  said('Missing authentication token'),
  said('Token not found'),
  said('Token has been revoked'),
  said('token has expired'),
]

t.test('500 calls of one user on two instances meet a dead token: one mint, each made once more', async t => {
  const { accounts, createInstance, alice, heard, sandbox, upstream, mintsOf } = await setStage(t, {
    sandbox: { mintsPerIp: 100 },
  })
  const other = (await createInstance()).accounts
  let token = ''
  const learn = async (credential: Credential) => {
    token = credential.token
    return OK
  }
  await accounts.call(alice, learn)
  for (const [n, { status, body }] of DEAD_TOKENS.entries()) {
    const contentType = body.startsWith('<') ? 'text/html' : 'application/json'
    const refusal = classify({ status, contentType, retryAfter: null, body })
    const dead = token
    sandbox.faults.revokeToken('all')
    const made = new Map<number, number>()
    const outcomes = await Promise.all(
      Array.from({ length: n === 0 ? 500 : 20 }, (_, i) =>
        (i % 2 ? accounts : other).call(alice, async credential => {
          made.set(i, (made.get(i) ?? 0) + 1)
          return credential.token === dead ? (refusal as Outcome<string>) : learn(credential)
        }),
      ),
    )
    t.ok(
      outcomes.every(({ kind }) => kind === 'ok'),
      `${status} ${body}: every call came through`,
    )
    t.equal(heard('mint').length, n + 2, 'one mint')
    t.ok(Math.max(...made.values()) <= 2, 'no call was made more than twice')
  }
  t.match(await upstream.credits({ token, platform: 'web' }), { kind: 'ok' })
  t.equal((await mintsOf(alice.userId)).length, DEAD_TOKENS.length + 1)
})

t.test('the budget: what is spent is not asked for, and new guests are shown a way on', async t => {
  const stage = await setStage(t, { mintsPerWeek: 3, sandbox: { mintsPerIp: 100 } })
  const { accounts, createInstance, createCaller, alice, sandbox, heard, db } = stage
  const other = (await createInstance()).accounts
  await db.execute(sql`delete from mints`)
  await accounts.call(alice, spy().send)
  const guests = await Promise.all(Array.from({ length: 8 }, () => createCaller('zh')))
  const outcomes = await Promise.all(
    guests.map((guest, i) => (i % 2 ? accounts : other).call(guest, spy().send)),
  )
  t.equal(outcomes.filter(({ kind }) => kind === 'ok').length, 2, 'two of eight who came at once')
  t.equal(heard('mint').length, 3, 'nothing is asked for beyond the budget')

  const refused = outcomes.findIndex(({ kind }) => kind !== 'ok')
  const { userId } = guests[refused]!
  const problem = await problemOf(accounts.valueOrThrow(outcomes[refused]!, { userId }, 'zh'))
  t.match(problem, {
    code: 'rate_limited',
    status: 429,
    userState: { message: /关联/, action: { kind: 'link_account', retryAt: String } },
  })
  t.ok(problem.retryAfterMs! > 6.9 * 24 * 3_600_000, 'until the oldest is a week old')
  t.match(await accounts.status({ userId }), { state: 'rate_limited', retryAt: String })
  t.match(await accounts.status(await createCaller()), { kind: 'none', state: 'rate_limited' })

  sandbox.faults.revokeToken('all')
  t.match(await accounts.call(alice, c => stage.upstream.credits(c)), { kind: 'ok' }, 'who is here stays')
  await accounts.link(guests[refused]!, sandbox.state.issueToken().token, 'zh')
  t.match(await accounts.call(guests[refused]!, spy().send), { kind: 'ok' }, 'linking is the way on')

  await db.execute(sql`update mints set at = at - interval '7 days'`)
  t.match(await accounts.call(await createCaller(), spy().send), { kind: 'ok' }, 'a week later')
})

t.test('a refused mint costs nothing of the budget, one without an answer does', async t => {
  const { accounts, createCaller, sandbox, heard, db } = await setStage(t, { mintsPerWeek: 1 })
  await db.execute(sql`delete from mints`)
  sandbox.faults.add({ on: 'mint', answer: 'status', status: 429, retryAfter: 3600 })
  t.match(await accounts.call(await createCaller(), spy().send), { kind: 'rate_limited' })
  sandbox.faults.add({ on: 'mint', answer: 'reset' })
  t.match(await accounts.call(await createCaller(), spy().send), { kind: 'transient' })
  t.match(await accounts.call(await createCaller(), spy().send), { reason: 'mint_budget' })
  t.equal(heard('mint').length, 2)
})

t.test('linking: the user’s own token serves, and the anonymous one comes back', async t => {
  const { accounts, alice, sandbox, heard, accountOf, dump } = await setStage(t)
  const first = spy()
  await accounts.call(alice, first.send)
  const own = sandbox.state.issueToken().token
  await accounts.link(alice, own, 'en')
  t.same(await accounts.status(alice), { kind: 'linked', state: 'ready' })
  const linked = spy()
  await accounts.call(alice, linked.send)
  t.equal(linked.seen[0]!.token, own)
  t.notMatch(await dump(), own, 'it is sealed')

  await t.test('a token that is not accepted changes nothing', async t => {
    t.match(await problemOf(accounts.link(alice, 'nmv_usr_wrong', 'en')), { code: 'invalid_request' })
    sandbox.faults.add({ on: 'credits', answer: 'status', status: 503 })
    t.match(await problemOf(accounts.link(alice, 'nmv_usr_wrong', 'en')), { code: 'upstream_unavailable' })
    t.match(await accountOf(alice.userId), { kind: 'linked', state: 'ready', generation: 1 })
  })

  const second = sandbox.state.issueToken().token
  await accounts.link(alice, second, 'en')
  await accounts.unlink(alice.userId)
  t.same(await accounts.status(alice), { kind: 'anonymous', state: 'ready' })
  const back = spy()
  await accounts.call(alice, back.send)
  t.equal(back.seen[0]!.token, first.seen[0]!.token)
  t.equal(heard('mint').length, 1, 'and is not minted again')
  await accounts.unlink(alice.userId)
  t.match(await accountOf(alice.userId), { kind: 'anonymous', state: 'ready', generation: 1 })
})

t.test('an anonymous token never replaces a linked one, also when its mint was under way', async t => {
  const { accounts, alice, sandbox, heard, accountOf } = await setStage(t)
  const own = sandbox.state.issueToken().token
  sandbox.faults.add({ on: 'mint', answer: 'slow', ms: 300 })
  const { seen, send } = spy()
  const call = accounts.call(alice, send)
  while (heard('mint').length === 0) await new Promise(setImmediate)
  await accounts.link(alice, own, 'en')
  t.same(await call, OK)
  t.equal(seen[0]!.token, own)
  t.match(await accountOf(alice.userId), { kind: 'linked', state: 'ready' })
  await accounts.unlink(alice.userId)
  await accounts.call(alice, send)
  t.match(seen[1]!.token, /^nmv_usr_/)
  t.not(seen[1]!.token, own)
  t.equal(heard('mint').length, 1, 'what was minted is kept for later')
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
  let refusals = 0
  const { accounts } = await createInstance({ onSharedRefused: () => refusals++ })
  const { seen, send } = spy()
  await accounts.call(alice, send)
  t.equal(seen[0]!.token, 'shared')
  t.equal(refusals, 0)
  t.same(await accounts.call(alice, c => upstream.credits(c)), { kind: 'auth' })
  t.equal(refusals, 1, 'an operator hears of it')
  t.equal(heard('credits').length, 1)
  t.same(await accounts.status(alice), { kind: 'shared', state: 'ready' })
  t.match(await accounts.problem({ kind: 'auth' }, alice, 'en'), { code: 'upstream_unavailable' })
  t.equal(heard('mint').length, 0)
  t.equal(sandbox.journal().length, 1)
  t.equal(await accountOf(alice.userId), undefined)
})

t.test('a linked account is served before the shared one', async t => {
  const { createInstance, alice, sandbox } = await setStage(t, { sharedToken: 'shared' })
  const { accounts } = await createInstance()
  const own = sandbox.state.issueToken().token
  await accounts.link(alice, own, 'en')
  t.same(await accounts.status(alice), { kind: 'linked', state: 'ready' })
  const { seen, send } = spy()
  await accounts.call(alice, send)
  await accounts.unlink(alice.userId)
  await accounts.call(alice, send)
  t.same(
    seen.map(({ token }) => token),
    [own, 'shared'],
  )
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
    t.match(await accounts.problem(outcome, alice, 'en'), {
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
  t.match((await accounts.problem(refused, alice, 'en')).userState?.action, {
    kind: 'register',
    url: `https://nemovideo.example/register?bind=${upstreamUserId}`,
  })
  await accounts.learnUpstreamUserId((await accountOf(alice.userId)).id, 'anon_other')
  t.equal((await accountOf(alice.userId)).upstreamUserId, upstreamUserId, 'what is known stays')
  t.match((await accounts.problem(refused, bob, 'en')).userState?.action, {
    url: 'https://nemovideo.example/register',
  })
  t.match(await problemOf(accounts.valueOrThrow(refused, alice, 'en')), {
    code: 'credits_exhausted',
    status: 402,
    userState: { action: { kind: 'register' } },
  })
  const limited = { kind: 'rate_limited', retryAfterMs: 5_000 } as const
  t.match(await problemOf(accounts.valueOrThrow(limited, alice, 'en')), {
    code: 'rate_limited',
    retryAfterMs: 5_000,
  })
  t.equal(await accounts.valueOrThrow(OK, alice, 'en'), 'done')
})
