import t, { type Test } from 'tap'
import type { Sandbox } from '../../sandbox/server.ts'
import { testApp } from '../helpers/app.ts'
import { type Client, follow, isCustom, type Json, runEnded, signIn } from '../helpers/client.ts'
import { until } from '../helpers/gateway.ts'

const SPEED = { textMs: 20, editMs: 60, renderMs: 150, chunkMs: 1 }

/** Sends a message and waits for the run's end. */
async function edit(client: Client, project: string, text: string): Promise<Json> {
  const { run } = await client.post(`/v1/projects/${project}/messages`, { text })
  return until(async () => {
    const now = await client.get(`/v1/runs/${run.id}`)
    return now.finishedAt && now
  })
}

const renderIs = (client: Client, id: string, wanted: (render: Json) => boolean) =>
  until(async () => {
    const now = await client.get(`/v1/renders/${id}`)
    return wanted(now) && now
  })

const filmOf = (client: Client, render: string) =>
  fetch(`${client.url}/v1/renders/${render}/file`, { headers: { authorization: `Bearer ${client.token}` } })

const isDone = (render: Json) => ['completed', 'failed', 'cancelled'].includes(render.state)

/** Nobody was told that a project began anew, and upstream none did: each has the one session it began with. */
async function nothingBeganAnew(t: Test, sandbox: Sandbox, client: Client, projects: string[]) {
  for (const id of projects)
    t.notOk((await client.log(id)).some(isCustom('project.session_replaced')), 'no project began anew')
  t.equal(sandbox.journal().filter(({ endpoint }) => endpoint === 'session').length, projects.length)
}

/** Whose account upstream the messages of a text were sent in. */
const senderOf = (sandbox: Sandbox, text: string) =>
  sandbox
    .journal()
    .filter(entry => entry.endpoint === 'run' && entry.text === text)
    .map(({ userId }) => userId)

t.test('a guest links an account while everything is under way, and loses nothing', async t => {
  const { url, sandbox } = await testApp(t, { sandbox: { speed: { ...SPEED, editMs: 300, renderMs: 500 } } })
  const alice = await signIn(url)
  const [film, talk, files] = [
    await alice.projectWithClip(),
    await alice.projectWithClip(),
    await alice.project(),
  ]
  await edit(alice, film, 'Add calm background music')
  const guest = sandbox.state.world.accounts[0]!.userId
  const before = await alice.get(`/v1/projects/${film}/timeline`)
  const earlier = await renderIs(alice, (await alice.post(`/v1/projects/${film}/renders`)).id, isDone)

  const render = await alice.post(`/v1/projects/${film}/renders`)
  await renderIs(alice, render.id, ({ state }) => state === 'rendering')
  const live = await follow(t, alice, talk)
  const { run } = await alice.post(`/v1/projects/${talk}/messages`, { text: 'Add calm background music' })
  const { run: next } = await alice.post(`/v1/projects/${talk}/messages`, {
    text: 'Trim the clip to four seconds',
  })
  await live.next(entry => entry.runId === run.id && entry.chunk.type === 'RUN_STARTED')
  sandbox.faults.add({ on: 'upload', answer: 'slow', ms: 300 })
  const sent = sandbox.journal().length
  const form = new FormData()
  form.append('file', new Blob([new Uint8Array([0xff, 0xd8, 0xff, 0xe0, ...new Uint8Array(200)])]), 'a.jpg')
  const uploading = fetch(`${url}/v1/projects/${files}/uploads`, {
    method: 'POST',
    headers: { authorization: `Bearer ${alice.token}` },
    body: form,
  })
  await until(async () =>
    sandbox
      .journal()
      .slice(sent)
      .some(({ endpoint }) => endpoint === 'upload'),
  )

  const own = sandbox.state.issueToken(500)
  t.match(await alice.put('/v1/me/upstream', { token: own.token }), { upstream: { kind: 'linked' } })
  const uploaded = await uploading
  t.equal(uploaded.status, 201, await uploaded.text())
  t.match((await live.next(runEnded(run.id))).chunk.value, { state: 'completed', outcome: 'edited' })
  t.match((await live.next(runEnded(next.id))).chunk.value, { state: 'completed', outcome: 'edited' })
  t.match(await renderIs(alice, render.id, isDone), { state: 'completed', attempts: 1 })
  for (const { id } of [earlier, render]) {
    const film = await filmOf(alice, id)
    t.equal(film.status, 200, 'a film of before and one of the time between')
    t.ok((await film.arrayBuffer()).byteLength > 1_000)
  }
  const timeline = await alice.get(`/v1/projects/${film}/timeline`)
  t.same(timeline.tracks, before.tracks)
  t.ok(timeline.fetchedAt > before.fetchedAt, 'read afresh')

  t.match(await edit(alice, film, 'Add a title that says "After"'), { state: 'completed', outcome: 'edited' })
  t.match((await alice.get(`/v1/projects/${film}/timeline`)).summary, /BGM.*After/)
  t.same(senderOf(sandbox, 'Add a title that says "After"'), [guest], 'a project stays where it was made')
  t.match(await alice.post(`/v1/projects/${film}/claim-link`), { url: /clm_/ })
  t.match(await alice.get('/v1/credits'), { total: 500 }, 'the linked account serves')
  const asked = await alice.post(`/v1/projects/${film}/messages`, { text: 'How many credits are left?' })
  t.ok(asked.credits.total < 100, 'a project tells the credits that it spends')

  const fresh = await alice.projectWithClip()
  await edit(alice, fresh, 'Add a title that says "Mine"')
  t.same(senderOf(sandbox, 'Add a title that says "Mine"'), [own.userId], 'what is new is made there')
  await nothingBeganAnew(t, sandbox, alice, [film, talk, files, fresh])
  t.equal(sandbox.journal().filter(({ endpoint }) => endpoint === 'mint').length, 1)
})

t.test('another token of the linked account, and one of another account', async t => {
  const { url, sandbox } = await testApp(t, { sandbox: { speed: SPEED } })
  const alice = await signIn(url)
  const link = (token: string) => alice.put('/v1/me/upstream', { token })
  const first = sandbox.state.issueToken()
  await link(first.token)
  const project = await alice.projectWithClip()
  await edit(alice, project, 'Add calm background music')

  await link(sandbox.state.reissueToken(first.userId).token)
  t.match(await edit(alice, project, 'Add a title that says "Two"'), { state: 'completed' })

  const second = sandbox.state.issueToken(300)
  await link(second.token)
  t.match(await alice.get('/v1/credits'), { total: 300 })
  t.match(await edit(alice, project, 'Add a title that says "Three"'), { state: 'completed' })
  const other = await alice.projectWithClip()

  sandbox.faults.revokeToken(first.userId)
  t.match(await edit(alice, project, 'Add a title that says "Four"'), {
    state: 'failed',
    userState: { code: 'reauth_required', action: { kind: 'link_account' } },
  })
  t.match((await alice.get(`/v1/projects/${project}/timeline`)).summary, /Three/, 'what is known is shown')
  t.match(
    await alice.get('/v1/me'),
    { upstream: { kind: 'linked', state: 'ready' } },
    'the other one is fine',
  )
  await link(sandbox.state.reissueToken(first.userId).token)
  t.match(await edit(alice, project, 'Add a title that says "Five"'), { state: 'completed' })
  t.match((await alice.get(`/v1/projects/${project}/timeline`)).summary, /BGM.*Five/)
  t.match(await edit(alice, other, 'Add a title that says "Six"'), { state: 'completed' })
  t.same(senderOf(sandbox, 'Add a title that says "Six"'), [second.userId])
  await nothingBeganAnew(t, sandbox, alice, [project, other])
})

t.test('a guest registers, and links the account that its projects have moved to', async t => {
  const { url, sandbox } = await testApp(t, { sandbox: { speed: SPEED } })
  const alice = await signIn(url)
  const project = await alice.projectWithClip()
  await edit(alice, project, 'Add a title that says "Guest"')
  const { userId } = sandbox.state.world.accounts[0]!
  sandbox.state.setCredits(userId, 0)
  t.match(await edit(alice, project, 'Add calm background music'), {
    state: 'failed',
    userState: { action: { kind: 'register', url: new RegExp(`bind=${userId}`) } },
  })
  sandbox.state.setCredits(userId, 700)
  const { token } = sandbox.state.reissueToken(userId)
  t.match(
    await edit(alice, project, 'Add calm background music'),
    { state: 'failed', userState: { code: 'reauth_required', action: { kind: 'link_account' } } },
    'the guest’s token is dead, and the next one is of a new guest',
  )
  const fresh = await alice.projectWithClip()
  t.match(await edit(alice, fresh, 'Add calm background music'), { state: 'completed' })
  t.match(await alice.get('/v1/me'), { upstream: { kind: 'anonymous', state: 'ready' } })
  await alice.put('/v1/me/upstream', { token })
  t.match(await edit(alice, project, 'Add calm background music'), { state: 'completed', outcome: 'edited' })
  t.match(await alice.get('/v1/credits'), { links: { topUp: String } })
  t.match(await edit(alice, fresh, 'Add a title that says "Still a guest"'), { state: 'completed' })
  await nothingBeganAnew(t, sandbox, alice, [project, fresh])
  t.equal(sandbox.journal().filter(({ endpoint }) => endpoint === 'mint').length, 2)
})

t.test('an account is unlinked: its projects wait until it is linked again', async t => {
  const { url, sandbox } = await testApp(t, { sandbox: { speed: { ...SPEED, renderMs: 400 } } })
  const alice = await signIn(url)
  const older = await alice.projectWithClip()
  const own = sandbox.state.issueToken()
  await alice.put('/v1/me/upstream', { token: own.token })
  const project = await alice.projectWithClip()
  await edit(alice, project, 'Add a title that says "Mine"')
  const render = await alice.post(`/v1/projects/${project}/renders`)
  await renderIs(alice, render.id, ({ state }) => state === 'rendering')

  t.match(await alice.remove('/v1/me/upstream'), { upstream: { kind: 'anonymous', state: 'ready' } })
  t.match(await renderIs(alice, render.id, ({ needsUser }) => needsUser), {
    state: 'rendering',
    problem: { code: 'reauth_required' },
  })
  const waiting = sandbox.journal().length
  t.match(await edit(alice, project, 'Add calm background music'), {
    state: 'failed',
    userState: { code: 'reauth_required', action: { kind: 'link_account' } },
  })
  t.match(await alice.get(`/v1/projects/${project}/timeline`), { summary: /Mine/ })
  t.notOk(
    sandbox
      .journal()
      .slice(waiting)
      .some(({ userId }) => userId === own.userId),
    'its token is not used any more',
  )
  t.match(await edit(alice, older, 'Add a title that says "Guest"'), { state: 'completed' })

  await alice.put('/v1/me/upstream', { token: own.token })
  t.match(await renderIs(alice, render.id, isDone), { state: 'completed', attempts: 1 })
  t.equal((await filmOf(alice, render.id)).status, 200)
  t.match(await edit(alice, project, 'Add calm background music'), { state: 'completed', outcome: 'edited' })
  await nothingBeganAnew(t, sandbox, alice, [older, project])
})
