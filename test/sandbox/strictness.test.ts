import t from 'tap'
import { attribution, jsonOf, message, mint, signIn, startSandbox } from './helpers.ts'

t.test('a token is minted once for a client id, until it is dead', async t => {
  const sandbox = await startSandbox(t)
  t.equal((await mint(sandbox.url)).status, 400, 'no client id')
  t.equal((await mint(sandbox.url, 'x'.repeat(65))).status, 400, 'a client id that is too long')
  t.equal((await mint(sandbox.url, 'alice', {})).status, 400, 'no attribution')

  const first = (await jsonOf(await mint(sandbox.url, 'alice'))).data
  t.match(first, { token: /^nmv_usr_[\w-]{20,}$/, user_id: /^anon_/, credits: 100, expires_at: /Z$/ })
  const again = await mint(sandbox.url, 'alice')
  t.equal(again.status, 429)
  t.equal(again.headers.get('retry-after'), '30')

  sandbox.faults.revokeToken(first.user_id)
  const renewed = (await jsonOf(await mint(sandbox.url, 'alice'))).data
  t.equal(renewed.user_id, first.user_id)
  t.not(renewed.token, first.token)

  sandbox.state.world.accounts[0]!.expiresAt = Date.now() - 1
  t.equal((await mint(sandbox.url, 'alice')).status, 200)
  t.strictSame(
    sandbox
      .journal()
      .filter(entry => entry.endpoint === 'mint')
      .map(entry => entry.accepted),
    [false, false, false, true, false, true, true],
  )
})

t.test('an address gets ten tokens a week', async t => {
  const sandbox = await startSandbox(t, { mintsPerIp: 10 })
  for (let i = 0; i < 10; i++) t.equal((await mint(sandbox.url, `client-${i}`)).status, 200)
  t.equal((await mint(sandbox.url, 'client-10')).status, 429)
})

t.test('a bad token is code 1001 under 200, missing attribution 400, of a render 402', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const path = '/api/credits/balance/simple'
  for (const authorization of ['', 'Bearer nmv_usr_wrong', alice.token]) {
    const answer = await alice.get(path, { authorization })
    t.equal(answer.status, 200)
    t.strictSame(await answer.json(), { code: 1001, message: 'invalid token', data: null })
  }
  sandbox.faults.revokeToken('all')
  t.match(await (await alice.get(path)).json(), { code: 1001, message: 'token has been revoked' })
  for (const missing of Object.keys(attribution)) {
    t.equal((await alice.get(path, { [missing]: '' })).status, 400)
    const answer = await alice.post('/api/render/proxy/lambda', {}, { [missing]: '' })
    t.equal(answer.status, 402)
  }
  t.notMatch(JSON.stringify(sandbox.journal()), alice.token)
})

t.test('paths are exact', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const paths = ['/', '/run_sse/', '/RUN_SSE', '/api//credits/balance/simple', '/api/credits/balance/simple/']
  for (const path of [...paths, `/api/state/nemo_agent/me/..%2f${alice.sessionId}/latest`]) {
    const answer = await alice.get(path)
    t.equal(answer.status, 404, path)
    t.strictSame(await answer.json(), { detail: 'Not Found' })
  }
  t.equal((await alice.get('/run_sse')).status, 404, 'the method counts too')
})

t.test('a session is known to its account only', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const bob = await signIn(sandbox.url, 'bob')
  t.match(alice.sessionId, /^[1-9]\d{18}$/)
  t.not(String(Number(alice.sessionId)), alice.sessionId)

  const stranger = await bob.post('/run_sse', message(alice.sessionId, 'hello'), {
    accept: 'text/event-stream',
  })
  t.equal(stranger.status, 404)
  t.strictSame(await stranger.json(), { detail: 'Session not found' })
  t.match(await (await bob.get(`/api/state/nemo_agent/me/${alice.sessionId}/latest`)).json(), { code: 1002 })

  sandbox.faults.dropSession('all')
  t.equal((await alice.run('hello')).status, 404)
})

t.test('a message has one spelling', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const good = message(alice.sessionId, 'hello')
  const camel = {
    appName: 'nemo_agent',
    userId: 'me',
    sessionId: alice.sessionId,
    newMessage: good.new_message,
  }
  const bad = [
    camel,
    { ...good, session_id: Number(alice.sessionId) },
    { ...good, app_name: 'other' },
    { ...good, user_id: 'alice' },
    { ...good, new_message: 'hello' },
    { ...good, new_message: { parts: [] } },
    { ...good, streaming: 'true' },
    { ...good, model: 'best' },
    '{',
  ]
  const accept = { accept: 'text/event-stream' }
  for (const body of bad)
    t.equal((await alice.post('/run_sse', body, accept)).status, 422, JSON.stringify(body))
  t.equal((await alice.post('/run_sse', good, { accept: '*/*' })).status, 406)
  t.equal((await alice.post('/run_sse', good, { ...accept, 'content-type': 'text/plain' })).status, 422)
  t.notOk(sandbox.journal().some(entry => entry.endpoint === 'run' && entry.accepted))
  t.equal((await alice.post('/run_sse', { ...good, streaming: true }, accept)).status, 200)

  const other = await startSandbox(t, { bodyCase: 'camel' })
  const bob = await signIn(other.url)
  t.equal((await bob.run('hello')).status, 422)
  t.equal((await bob.post('/run_sse', { ...camel, sessionId: bob.sessionId }, accept)).status, 200)
})

t.test('credits are charged, frozen while a video is made, and end', async t => {
  const sandbox = await startSandbox(t, { speed: { generateMs: 300 } })
  const alice = await signIn(sandbox.url)
  const balance = async () => (await jsonOf(await alice.get('/api/credits/balance/simple'))).data
  await (await alice.run('add a title "One"')).text()
  t.strictSame(await balance(), { available: 95, frozen: 0, total: 95 })
  const generating = await alice.run('generate a city timelapse')
  t.strictSame(await balance(), { available: 75, frozen: 20, total: 95 })
  await generating.text()
  t.strictSame(await balance(), { available: 75, frozen: 0, total: 75 })

  sandbox.state.setCredits(alice.userId, 4)
  t.match(await (await alice.run('add music')).json(), { code: 2001 })
  t.equal((await alice.run('hello')).headers.get('content-type'), 'text/event-stream')
  sandbox.state.setCredits('all', 0)
  t.match(await (await alice.run('hello')).json(), { code: 2001 })
})

t.test('two messages at once are both taken, and the journal tells', async t => {
  const sandbox = await startSandbox(t, { speed: { editMs: 200 } })
  const alice = await signIn(sandbox.url)
  const first = await alice.run('add a title "One"')
  const second = await alice.run('add music')
  await Promise.all([first.text(), second.text()])
  await (await alice.run('hello')).text()
  await (await alice.run('hello')).text()
  const runs = sandbox.journal().filter(entry => entry.endpoint === 'run')
  t.strictSame(
    runs.map(entry => entry.overlap),
    [false, true, false, false],
  )
  t.strictSame(
    (await alice.state()).draft.t.map((track: { tt: number }) => track.tt),
    [7, 1],
  )
})

t.test('a message after a stream that broke off overlaps with the work that goes on', async t => {
  const sandbox = await startSandbox(t, { speed: { editMs: 300 } })
  const alice = await signIn(sandbox.url)
  sandbox.faults.add({ on: 'run', answer: 'cut', frames: 1, how: 'end' })
  await (await alice.run('add a title "One"')).text()
  await (await alice.run('hello')).text()
  t.match(sandbox.journal().at(-1), { text: 'hello', overlap: true })
})

t.test('a claim link needs the task of the session', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const claim = async (task_id: string) =>
    (await alice.post('/api/auth/claim-token', { task_id, session_id: alice.sessionId })).json()
  t.match(await claim(alice.taskId), { code: 0, data: { claim_token: /^clm_/, expires_in: 604800 } })
  t.match(await claim('other'), { code: 1002 })
})
