import { SignJWT, UnsecuredJWT } from 'jose'
import t from 'tap'
import { testApp } from '../helpers/app.ts'
import { asUser, follow, type Json, signIn } from '../helpers/client.ts'
import { until } from '../helpers/gateway.ts'
import { AUDIENCE, newKey, startIssuer } from '../helpers/issuer.ts'

const issuer = await startIssuer(t)
const { url, sandbox } = await testApp(t, { env: issuer.env, sandbox: { speed: { textMs: 400 } } })

async function exchange(body: object, headers: Record<string, string> = {}, at = url) {
  const answer = await fetch(`${at}/v1/auth/oidc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ delivery: 'bearer', ...body }),
  })
  return { status: answer.status, headers: answer.headers, body: (await answer.json()) as Json }
}
const as = ({ token }: { token: string }) => ({ authorization: `Bearer ${token}` })
let people = 0
const somebody = () => `person-${++people}`

t.test('an ID token makes an account, and finds it again from another device', async t => {
  const sub = somebody()
  const claims = { sub, email: 'ada@example.com', email_verified: true }
  const first = await exchange({ idToken: await issuer.sign(claims) })
  t.equal(first.status, 201)
  t.match(first.body, { user: { kind: 'account', email: 'ada@example.com' }, token: /^rg_/ })
  const phone = asUser(url, first.body.token, first.body.user.id)
  const project = await phone.project()
  const second = await exchange({ idToken: await issuer.sign({ sub }) })
  t.equal(second.body.user.id, first.body.user.id)
  const laptop = asUser(url, second.body.token, second.body.user.id)
  t.equal((await laptop.get(`/v1/projects/${project}`)).id, project)
  t.equal((await phone.get('/v1/me')).user.email, 'ada@example.com', 'the phone stays signed in')
  const other = await exchange({ idToken: await issuer.sign({ sub: somebody(), email: 'x@example.com' }) })
  t.not(other.body.user.id, first.body.user.id)
  t.notOk(other.body.user.email, 'an address that nobody verified proves nothing')
})

t.test('as a cookie', async t => {
  const { status, headers, body } = await exchange({ idToken: await issuer.sign(), delivery: 'cookie' })
  t.equal(status, 201)
  t.notOk(body.token)
  t.match(headers.get('set-cookie'), /^__Host-reelgate=rg_.*HttpOnly; Secure; SameSite=Lax/)
})

t.test('a guest becomes the account with all it has, and its old credential ends', async t => {
  const guest = await signIn(url)
  const project = await guest.projectWithClip()
  const live = await follow(t, guest, project)
  const sub = somebody()
  const { status, body } = await exchange({ idToken: await issuer.sign({ sub }) }, as(guest))
  t.equal(status, 201)
  t.match(body.user, { id: guest.userId, kind: 'account' })
  t.equal((await guest.get('/v1/me')).http.status, 401, 'the credential is replaced')
  t.equal((await live.closed).code, 4503)
  const account = asUser(url, body.token, body.user.id)
  t.equal((await account.get(`/v1/projects/${project}`)).id, project)
  const mints = () => sandbox.journal().filter(({ endpoint }) => endpoint === 'mint').length
  const before = mints()
  t.match(await account.get('/v1/credits'), { available: Number })
  t.equal(mints(), before, 'with the same upstream account')
})

t.test('a guest of a second device gives what it has to the account', async t => {
  const sub = somebody()
  const first = await exchange({ idToken: await issuer.sign({ sub }) })
  const account = asUser(url, first.body.token, first.body.user.id)
  const older = await account.project()
  const guest = await signIn(url)
  const project = await guest.projectWithClip()
  const render = await guest.post(`/v1/projects/${project}/renders`)
  await until(async () => (await guest.get(`/v1/renders/${render.id}`)).state === 'completed')
  const before = sandbox.journal().length
  const { status, body } = await exchange({ idToken: await issuer.sign({ sub }) }, as(guest))
  t.equal(status, 201)
  t.equal(body.user.id, account.userId)
  for (const device of [account, asUser(url, body.token, body.user.id)]) {
    const { items } = await device.get('/v1/projects')
    t.same(items.map(({ id }: Json) => id).sort(), [older, project].sort())
    t.match(await device.get(`/v1/renders/${render.id}`), { state: 'completed', projectId: project })
    t.equal((await device.get(`/v1/projects/${project}/uploads`)).items.length, 1)
  }
  t.ok((await account.log(project)).length > 0, 'the log came along')
  t.match(
    (await account.get(`/v1/projects/${project}/timeline`)).tracks,
    [{}],
    'and the timeline can be read',
  )
  const asked = sandbox.journal().slice(before)
  t.notOk(
    asked.some(({ endpoint }) => endpoint === 'mint' || endpoint === 'session'),
    'with the guest’s upstream account',
  )
  t.equal((await guest.get('/v1/me')).http.status, 401)
  t.same((await (await signIn(url)).get('/v1/projects')).items, [], 'and nobody else got anything')
})

t.test('both have an account upstream: each project goes on in the one that it was made with', async t => {
  const sub = somebody()
  const first = await exchange({ idToken: await issuer.sign({ sub }) })
  const account = asUser(url, first.body.token, first.body.user.id)
  const older = await account.projectWithClip()
  const guest = await signIn(url)
  const project = await guest.projectWithClip()
  const render = await guest.post(`/v1/projects/${project}/renders`)
  await until(async () => (await guest.get(`/v1/renders/${render.id}`)).state === 'completed')
  const before = sandbox.journal().length
  const { status, body } = await exchange({ idToken: await issuer.sign({ sub }) }, as(guest))
  t.equal(status, 201)
  const device = asUser(url, body.token, body.user.id)

  for (const id of [older, project]) {
    t.match((await device.get(`/v1/projects/${id}/timeline`)).tracks, [{}], 'what was uploaded is there')
    const message = { text: 'Add a title that says Sesame', intent: 'chat' }
    const { run } = await device.post(`/v1/projects/${id}/messages`, message)
    const ended = await until(async () => {
      const found = await device.get(`/v1/runs/${run.id}`)
      return ['completed', 'failed'].includes(found.state) && found
    })
    t.match(ended, { state: 'completed', outcome: 'edited', credits: { spent: Number } })
    t.ok(ended.credits.spent > 0, 'counted where they are spent')
    const names = (await device.log(id)).map(({ chunk }: Json) => chunk.name)
    t.notOk(names.includes('project.session_replaced'), 'nothing began anew')
    t.equal((await device.post(`/v1/projects/${id}/claim-link`)).http.status, 200)
    const again = await device.post(`/v1/projects/${id}/renders`)
    await until(async () => (await device.get(`/v1/renders/${again.id}`)).state === 'completed')
  }
  const file = await fetch(`${url}/v1/renders/${render.id}/file`, { headers: as(body) })
  t.equal(file.status, 200, 'the film of before')
  await file.arrayBuffer()
  const asked = sandbox.journal().slice(before)
  t.notOk(asked.some(({ endpoint }) => endpoint === 'mint' || endpoint === 'session'))
  t.equal((await guest.get('/v1/me')).http.status, 401)
  t.match(await device.get('/v1/me'), { user: { kind: 'account' }, upstream: { state: 'ready' } })
})

t.test('not while the guest’s work is under way', async t => {
  const sub = somebody()
  await exchange({ idToken: await issuer.sign({ sub }) })
  const guest = await signIn(url)
  const project = await guest.project()
  const { run } = await guest.post(`/v1/projects/${project}/messages`, { text: 'hello', intent: 'chat' })
  const idToken = await issuer.sign({ sub })
  const refused = await exchange({ idToken }, as(guest))
  t.equal(refused.status, 409)
  t.match(refused.body, { code: 'project_busy', retryAfterMs: Number })
  t.equal((await guest.get(`/v1/projects/${project}`)).id, project, 'nothing has changed')
  await until(async () => (await guest.get(`/v1/runs/${run.id}`)).state === 'completed')
  t.equal((await exchange({ idToken }, as(guest))).status, 201)
})

t.test('two first sign-ins at once make one account', async t => {
  const idToken = await issuer.sign({ sub: somebody() })
  const answers = await Promise.all(Array.from({ length: 8 }, () => exchange({ idToken })))
  t.equal(new Set(answers.map(({ body }) => body.user.id)).size, 1)
})

t.test('a token that is not for us, not from the issuer or not any more', async t => {
  const now = Math.floor(Date.now() / 1_000)
  const stranger = { ...(await newKey()), kid: issuer.publicKey().kid }
  const claims = { iss: issuer.url, aud: AUDIENCE, sub: 'alice', iat: now, exp: now + 300 }
  const publicKey = new TextEncoder().encode(JSON.stringify(issuer.publicKey()))
  const hmac = new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: issuer.publicKey().kid })
  const good = await issuer.sign()
  const wrong: Record<string, object> = {
    audience: { idToken: await issuer.sign({ aud: 'another-app' }) },
    'one audience of several': { idToken: await issuer.sign({ aud: [AUDIENCE, 'another-app'] }) },
    'asked for by another app': { idToken: await issuer.sign({ azp: 'another-app' }) },
    issuer: { idToken: await issuer.sign({ iss: 'https://evil.example' }) },
    expired: { idToken: await issuer.sign({ exp: now - 61 }) },
    'not yet': { idToken: await issuer.sign({ nbf: now + 300 }) },
    'no end': { idToken: await issuer.sign({ exp: undefined as never }) },
    'no subject': { idToken: await issuer.sign({ sub: undefined as never }) },
    'an empty subject': { idToken: await issuer.sign({ sub: '' }) },
    'a subject with a NUL': { idToken: await issuer.sign({ sub: 'a\0b' }) },
    'another key': { idToken: await issuer.sign({}, stranger) },
    unsigned: { idToken: new UnsecuredJWT(claims).encode() },
    'signed with the public key': { idToken: await hmac.sign(publicKey) },
    'changed afterwards': { idToken: good.replace(/\.[^.]+\./, `.${btoa(JSON.stringify(claims))}.`) },
    'without its signature': { idToken: good.replace(/[^.]+$/, '') },
    'no token': { idToken: 'x' },
    'the nonce of another': { idToken: await issuer.sign({ nonce: 'a' }), nonce: 'b' },
    'no nonce': { idToken: good, nonce: 'b' },
  }
  for (const [what, body] of Object.entries(wrong)) {
    const answer = await exchange(body)
    t.equal(answer.status, 401, what)
    t.match(answer.body, { code: 'unauthenticated', detail: 'The ID token is not valid here.' }, what)
  }
  for (const body of [
    { idToken: await issuer.sign({ nonce: 'a' }), nonce: 'a' },
    { idToken: await issuer.sign({ exp: now - 30 }) },
    { idToken: await issuer.sign({ aud: [AUDIENCE, 'another-app'], azp: AUDIENCE }) },
  ])
    t.equal((await exchange(body)).status, 201)
})

t.test('the issuer’s keys are fetched once, and again when one is new', async t => {
  const before = issuer.asked()
  const idToken = await issuer.sign()
  await Promise.all(Array.from({ length: 5 }, () => exchange({ idToken })))
  t.equal(issuer.asked(), before)
  await issuer.rotate()
  const rotated = await issuer.sign()
  await until(async () => (await exchange({ idToken: rotated })).status === 201)
  t.equal((await exchange({ idToken })).status, 401, 'what the old key signed is worth nothing')
})

t.test('an issuer that does not answer, and none at all', async t => {
  issuer.fail(true)
  const { url: fresh } = await testApp(t, { env: issuer.env })
  const idToken = await issuer.sign()
  const refused = await exchange({ idToken }, {}, fresh)
  t.equal(refused.status, 503)
  t.match(refused.body, { code: 'overloaded' })
  t.ok(refused.headers.get('retry-after'))
  issuer.fail(false)
  t.equal((await exchange({ idToken }, {}, fresh)).status, 201, 'it is asked again')
  const { url: without } = await testApp(t)
  t.equal((await exchange({ idToken }, {}, without)).status, 404)
})
