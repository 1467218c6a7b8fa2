import t from 'tap'
import { testApp } from '../helpers/app.ts'
import { signIn } from '../helpers/client.ts'

t.test('linking an account of one’s own, and unlinking it', async t => {
  const { url, sandbox } = await testApp(t)
  const alice = await signIn(url)
  t.match(await alice.get('/v1/me'), {
    user: { id: alice.userId },
    upstream: { kind: 'none', state: 'none' },
  })

  const { token } = sandbox.state.issueToken(500)
  const linked = await alice.put('/v1/me/upstream', { token })
  t.equal(linked.http.status, 200)
  t.match(linked, { user: { id: alice.userId }, upstream: { kind: 'linked', state: 'ready' } })
  t.notMatch(JSON.stringify(linked), token, 'it is never shown again')
  t.match(await alice.get('/v1/credits'), { available: 500, links: { topUp: String } })
  t.notOk(
    sandbox.journal().some(({ endpoint }) => endpoint === 'mint'),
    'a linked account needs no token of ours',
  )

  t.match(await alice.remove('/v1/me/upstream'), { upstream: { kind: 'anonymous', state: 'none' } })
  t.match(await alice.get('/v1/credits'), { available: 100, links: { register: String } })
})

t.test('what cannot be linked', async t => {
  const { url, sandbox } = await testApp(t)
  const alice = await signIn(url)
  const wrong = await alice.put('/v1/me/upstream', { token: 'nmv_usr_wrong' })
  t.match(wrong, { status: 400, code: 'invalid_request', detail: /does not accept/ })
  for (const body of [
    {},
    { token: '' },
    { token: 'a b' },
    { token: 'a\r\nx: y' },
    { token: 1 },
    { token: 'a', x: 1 },
  ])
    t.match(await alice.put('/v1/me/upstream', body), { status: 400, code: 'invalid_request' })
  sandbox.faults.add({ on: 'credits', answer: 'html', status: 502 })
  const { token } = sandbox.state.issueToken()
  t.match(await alice.put('/v1/me/upstream', { token }), { status: 502, code: 'upstream_unavailable' })
  t.match(await alice.get('/v1/me'), { upstream: { kind: 'none' } }, 'nothing is half done')
  const { token: dead } = sandbox.state.issueToken()
  sandbox.faults.revokeToken('all')
  t.match(await alice.put('/v1/me/upstream', { token: dead }), { code: 'invalid_request' })
  const stranger = await fetch(`${url}/v1/me/upstream`, { method: 'DELETE' })
  t.equal(stranger.status, 401)
})

t.test('a linked account that is refused must be linked again; another one serves what is new', async t => {
  const { url, sandbox } = await testApp(t)
  const alice = await signIn(url)
  await alice.put('/v1/me/upstream', { token: sandbox.state.issueToken().token })
  const id = await alice.projectWithClip()
  sandbox.faults.revokeToken('all')
  t.match(await alice.get('/v1/credits'), {
    status: 409,
    code: 'reauth_required',
    userState: { action: { kind: 'link_account' } },
  })
  t.match(await alice.get('/v1/me'), { upstream: { kind: 'linked', state: 'reauth_required' } })
  await alice.put('/v1/me/upstream', { token: sandbox.state.issueToken().token })
  t.match(await alice.get('/v1/me'), { upstream: { kind: 'linked', state: 'ready' } })
  t.match(await alice.get(`/v1/projects/${id}/timeline`), { exportable: true }, 'the project is what it was')
  t.notOk((await alice.log(id)).some(({ chunk }) => chunk.name === 'project.session_replaced'))
})

t.test('no token is left for a new guest', async t => {
  const { url, sandbox } = await testApp(t, { env: { MINTS_PER_WEEK: '1' } })
  t.match(await (await signIn(url)).get('/v1/credits'), { available: 100 })
  const bob = await signIn(url)
  const refused = await bob.get('/v1/credits')
  t.match(refused, {
    status: 429,
    code: 'rate_limited',
    userState: { message: /Link your NemoVideo account/, action: { kind: 'link_account', retryAt: String } },
  })
  t.ok(Number(refused.http.headers.get('retry-after')) > 6 * 24 * 3600)
  t.match(await bob.get('/v1/me'), { upstream: { state: 'rate_limited', retryAt: String } })
  t.equal(sandbox.journal().filter(({ endpoint }) => endpoint === 'mint').length, 1)
})
