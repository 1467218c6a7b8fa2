import t from 'tap'
import { rawMember } from '../../sandbox/raw-json.ts'
import { progressOf } from '../../sandbox/renders.ts'
import type { RenderJob } from '../../sandbox/state.ts'
import { draftIn, jsonOf, signIn, startSandbox, type User } from './helpers.ts'

const path = '/api/render/proxy/lambda'

async function finished(user: User, id: string) {
  for (;;) {
    const answer = await jsonOf(await user.get(`${path}/${id}`))
    const { status } = answer.data ?? answer
    if (status === 'completed' || status === 'failed') return answer
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

function urlOf(answer: { data?: { outputUrl: string }; output?: { url: string } }) {
  return answer.data?.outputUrl ?? answer.output!.url
}

t.test('a render is submitted once and followed to its file', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  t.match(await (await alice.render('r0', '{"t":[]}')).json(), { success: false }, 'nothing to render')
  await (await alice.run('generate a city timelapse')).text()
  t.match(await (await alice.render('r1')).json(), { success: true, data: { id: 'r1', status: 'pending' } })
  t.strictSame(await (await alice.render('r1')).json(), { success: false, error: 'Render id already exists' })

  const shapes = new Set<string>()
  for (const id of ['r1', 'r2', 'r3', 'r4']) {
    if (id !== 'r1') await alice.render(id)
    const answer = await finished(alice, id)
    shapes.add('data' in answer ? 'B' : 'A')
    const file = await fetch(urlOf(answer))
    t.equal(file.headers.get('content-type'), 'video/mp4')
    t.equal(file.headers.get('content-length'), String((await file.arrayBuffer()).byteLength))
  }
  t.equal(shapes.size, 2, 'both shapes occur')
  const unknown = await alice.get(`${path}/other`)
  t.equal(unknown.status, 404)
  t.strictSame(await unknown.json(), { success: false, error: 'Render not found' })
  const bob = await signIn(sandbox.url, 'bob')
  t.equal((await bob.get(`${path}/r1`)).status, 404, "another account's")
})

t.test('the journal tells whether the draft is byte for byte the one that was read', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  await (await alice.run('generate a city timelapse')).text()
  const draft = draftIn((await alice.state()).text)
  await (await alice.run('add a title "Later"')).text()
  await alice.render('older', draft)
  await alice.render('newest')
  await alice.render('rebuilt', JSON.stringify(JSON.parse(draft)))
  const entries = sandbox.journal().filter(entry => entry.endpoint === 'render')
  t.strictSame(
    entries.map(({ renderId, draftMatches }) => [renderId, draftMatches]),
    [
      ['older', true],
      ['newest', true],
      ['rebuilt', false],
    ],
  )
})

t.test('renders of a session are made one after the other', async t => {
  const job = { sessionId: 's', userId: 'u', workMs: 100, fate: 'complete' as const, cancelledAt: null }
  const first: RenderJob = { ...job, id: 'a', createdAt: 1000 }
  const second = { ...job, id: 'b', createdAt: 1010 }
  const other = { ...job, id: 'c', createdAt: 1010, sessionId: 'other' }
  const renders = [first, second, other]
  const at = (now: number) => renders.map(render => progressOf(render, { renders }, now).status)
  t.strictSame(at(1010), ['pending', 'pending', 'pending'])
  t.strictSame(at(1050), ['processing', 'pending', 'processing'])
  t.strictSame(at(1150), ['completed', 'processing', 'completed'])
  t.strictSame(at(1200), ['completed', 'completed', 'completed'])
  renders[0] = { ...first, cancelledAt: 1030 }
  t.strictSame(at(1050), ['failed', 'processing', 'processing'], 'a cancelled one makes room')
})

t.test('a render can be cancelled until it is finished', async t => {
  const sandbox = await startSandbox(t, { speed: { renderMs: 10_000 } })
  const alice = await signIn(sandbox.url)
  await (await alice.run('generate a city timelapse')).text()
  await alice.render('r1')
  t.match(await (await alice.post(`${path}/r1/cancel`, {})).json(), {
    success: true,
    data: { status: 'failed' },
  })
  t.match(JSON.stringify(await finished(alice, 'r1')), /cancelled/)
  t.equal((await alice.get('/api/render/proxy/r1/download')).status, 409)
})

t.test('files have ranges', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  await (await alice.run('generate a city timelapse')).text()
  await alice.render('r1')
  const url = urlOf(await finished(alice, 'r1'))
  const whole = await fetch(url)
  const bytes = Buffer.from(await whole.arrayBuffer())
  const etag = whole.headers.get('etag')!
  const get = (headers: Record<string, string>) => fetch(url, { headers })

  for (const [range, first, last] of [
    ['bytes=0-99', 0, 99],
    ['bytes=100-', 100, bytes.length - 1],
    ['bytes=-10', bytes.length - 10, bytes.length - 1],
    ['bytes=5-99999999', 5, bytes.length - 1],
  ] as const) {
    const part = await get({ range, 'if-range': etag })
    t.equal(part.status, 206, range)
    t.equal(part.headers.get('content-range'), `bytes ${first}-${last}/${bytes.length}`)
    t.ok(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(first, last + 1)))
  }
  const beyond = await get({ range: `bytes=${bytes.length}-` })
  t.equal(beyond.status, 416)
  t.equal(beyond.headers.get('content-range'), `bytes */${bytes.length}`)
  t.equal((await get({ range: 'bytes=0-99', 'if-range': '"older"' })).status, 200)
  t.equal((await get({ 'if-none-match': etag })).status, 304)
  t.equal((await fetch(url, { method: 'HEAD' })).headers.get('content-length'), String(bytes.length))
  t.equal((await fetch(`${sandbox.url}/files/other.mp4`)).status, 404)
})

t.test('a dead link has a fallback, in three forms', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  await (await alice.run('generate a city timelapse')).text()
  sandbox.faults.add({ on: 'render', answer: 'dead_url' })
  await alice.render('r1')
  t.equal((await fetch(urlOf(await finished(alice, 'r1')))).status, 410)

  const fallback = '/api/render/proxy/r1/download'
  const followed = await alice.get(fallback)
  t.equal(followed.redirected, true)
  t.equal(followed.headers.get('content-type'), 'video/mp4')
  await followed.body?.cancel()
  sandbox.faults.add({ on: 'download', answer: 'bytes' })
  t.equal((await alice.get(fallback, { range: 'bytes=0-9' })).status, 206)
  sandbox.faults.add({ on: 'download', answer: 'json' })
  const { output } = await jsonOf(await alice.get(fallback))
  t.equal((await fetch(output.url)).status, 200)
})

t.test('a member of a JSON text is found as it stands there', async t => {
  const value = '{ "a":1.0, "draft":"no", "s":"}\\"]{" , "l":[ 1e3 ,{}]}'
  for (const text of [
    `{"draft":${value}}`,
    `{ "x" : "\\"draft\\":1" , "draft" :\n${value} , "y" : [ { "draft" : 2 } ] }`,
    `{"draft":1,"\\u0064raft":${value}}`,
  ]) {
    t.doesNotThrow(() => JSON.parse(text))
    t.equal(rawMember(text, 'draft'), value)
  }
  t.equal(rawMember('{"draft":"<draft a=\\"}\\">","b":1}', 'draft'), '"<draft a=\\"}\\">"')
  t.equal(rawMember('{"a":-1.50}', 'a'), '-1.50')
  t.equal(rawMember('{}', 'draft'), null)
})
