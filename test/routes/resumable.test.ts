import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { testApp } from '../helpers/app.ts'
import { type Client, type Json, signIn } from '../helpers/client.ts'
import { until } from '../helpers/gateway.ts'
import { idOf, metadata, tusClient } from '../helpers/tus.ts'
import { clip, sha256, tiny } from '../services/uploads/stage.ts'

async function setStage(t: Test, env: Record<string, string> = {}) {
  const { url, sandbox, dataDir, app, database } = await testApp(t, { env })
  const client = await signIn(url)
  const projectId = await client.project()
  return {
    url,
    app,
    database,
    sandbox,
    client,
    projectId,
    tus: tusClient(client, projectId),
    spooled: async () => (await readdir(join(dataDir, 'spool'))).filter(name => name !== 'id'),
    spoolFile: (id: string) => readFile(join(dataDir, 'spool', id)),
    heard: () => sandbox.journal().filter(entry => entry.endpoint === 'upload'),
  }
}

const ended = (client: Client, id: string): Promise<Json> =>
  until(async () => {
    const upload = await client.get(`/v1/uploads/${id}`)
    return (upload.state === 'ready' || upload.state === 'failed') && upload
  })

t.test('an upload in pieces, from its beginning to the project', async t => {
  const { tus, client, projectId, heard, spooled } = await setStage(t)
  const created = await tus.create(clip.length, 'beach day.mp4')
  t.equal(created.status, 201)
  t.equal(created.headers.get('tus-resumable'), '1.0.0')
  t.ok(Date.parse(created.headers.get('upload-expires')!) > Date.now())
  const location = created.headers.get('location')!
  t.match(location, new RegExp(`^${tus.path}/[0-9a-f-]{36}$`))
  const id = idOf(location)
  t.match(await client.get(`/v1/uploads/${id}`), {
    state: 'receiving',
    filename: 'beach day.mp4',
    bytes: clip.length,
    bytesForwarded: 0,
  })
  const middle = Math.floor(clip.length / 2)
  const first = await tus.patch(location, 0, clip.subarray(0, middle))
  t.equal(first.status, 204)
  t.equal(first.headers.get('upload-offset'), String(middle))
  const head = await tus.head(location)
  t.equal(head.status, 200)
  t.equal(head.headers.get('upload-offset'), String(middle))
  t.equal(head.headers.get('upload-length'), String(clip.length))
  t.equal(head.headers.get('upload-metadata'), metadata('beach day.mp4'))
  t.equal(head.headers.get('cache-control'), 'no-store')
  const last = await tus.patch(location, middle, clip.subarray(middle))
  t.equal(last.status, 204)
  t.equal(last.headers.get('upload-offset'), String(clip.length))

  t.match(await ended(client, id), {
    state: 'ready',
    mediaType: 'video/mp4',
    bytes: clip.length,
    bytesForwarded: clip.length,
    media: { kind: 'video' },
  })
  t.match(heard(), [{ accepted: true, sha256: sha256(clip) }])
  await until(async () => (await spooled()).length === 0)
  const states = (await client.log(projectId))
    .filter(entry => entry.chunk.name === 'upload.updated')
    .map(entry => entry.chunk.value.state)
  t.same(states, ['receiving', 'forwarding', 'ready'])
  await until(async () => (await client.get(`/v1/projects/${projectId}`)).revision > 0)

  const after = await tus.head(location)
  t.equal(
    after.headers.get('upload-offset'),
    String(clip.length),
    'one who lost the answer learns that it is done',
  )
  t.equal((await tus.patch(location, clip.length, new Uint8Array())).status, 204)
  t.equal((await tus.patch(location, 0, clip)).status, 409)
  t.equal((await tus.remove(location)).status, 400)
  t.equal(heard().length, 1)
})

t.test('the bytes may come with the creation', async t => {
  const { tus, client, heard } = await setStage(t)
  const created = await tus.call(
    'POST',
    tus.path,
    {
      'upload-length': String(clip.length),
      'upload-metadata': metadata('a.mp4'),
      'content-type': 'application/offset+octet-stream',
    },
    clip,
  )
  t.equal(created.status, 201)
  t.equal(created.headers.get('upload-offset'), String(clip.length))
  await ended(client, idOf(created.headers.get('location')!))
  t.match(heard(), [{ sha256: sha256(clip) }])
})

t.test('every accepted format, forwarded byte for byte', async t => {
  const { tus, client, heard } = await setStage(t)
  const extensions = 'mp4 mov avi webm mkv jpg png gif webp mp3 wav m4a aac'.split(' ')
  for (const extension of extensions) {
    const bytes = tiny(extension)
    const type = { 'upload-metadata': `filename ${Buffer.from(`a.${extension}`).toString('base64')}` }
    const location = (await tus.create(bytes.length, '', type)).headers.get('location')!
    t.equal((await tus.patch(location, 0, bytes)).status, 204, extension)
    t.match(await ended(client, idOf(location)), { state: 'ready' }, extension)
  }
  t.same(
    heard().map(entry => entry.sha256),
    extensions.map(extension => sha256(tiny(extension))),
  )
})

t.test('what is not what it is called is refused, as early as it can be seen', async t => {
  const { tus, client, heard, spooled } = await setStage(t)
  const refused = await tus.create(10, 'page.html')
  t.equal(refused.status, 415)
  t.match(refused.headers.get('content-type'), /^application\/problem\+json/)
  t.match(await refused.json(), {
    code: 'unsupported_media',
    userState: { message: /mp4/ },
    requestId: String,
  })
  t.equal((await tus.create(10, 'a.mp4', { 'upload-metadata': metadata('a.mp4', 'image/png') })).status, 415)
  t.equal((await tus.create(0)).status, 415, 'nothing is no film')
  t.equal((await tus.create(600_000_000)).status, 413)
  t.same((await client.get(`${tus.path.replace('/resumable', '')}`)).items, [], 'nothing is left of them')

  const spoof = Buffer.concat([tiny('mp3'), Buffer.alloc(10_000)])
  const location = (await tus.create(spoof.length)).headers.get('location')!
  t.equal((await tus.patch(location, 0, spoof)).status, 415)
  t.match(await client.get(`/v1/uploads/${idOf(location)}`), {
    state: 'failed',
    problem: { code: 'unsupported_media' },
  })
  t.equal((await tus.head(location)).status, 410)

  const slowly = (await tus.create(spoof.length)).headers.get('location')!
  t.equal((await tus.patch(slowly, 0, spoof.subarray(0, 100))).status, 204)
  t.equal((await tus.patch(slowly, 100, spoof.subarray(100))).status, 415, 'found at the end')
  t.equal((await tus.head(slowly)).status, 410)
  t.same(await spooled(), [])
  t.same(heard(), [])
})

t.test('another user’s upload does not exist', async t => {
  const { url, client, projectId, tus } = await setStage(t)
  const bob = await signIn(url)
  const location = (await tus.create(clip.length)).headers.get('location')!
  const other = await client.project()
  const foreign = tusClient(bob, projectId)
  for (const answer of [
    await foreign.create(clip.length),
    await foreign.head(location),
    await foreign.patch(location, 0, clip),
    await foreign.remove(location),
    await tusClient(bob, await bob.project()).head(location),
    await tus.head(location.replace(projectId, other)),
    await tus.head(`${tus.path}/${projectId}`),
    await tus.head(`${tus.path}/..%2f..%2fid`),
    await tus.head(`${tus.path}/x`),
  ])
    t.equal(answer.status, 404)
  const nobody = tusClient({ ...client, token: 'rg_wrong' }, projectId)
  t.equal((await nobody.patch(location, 0, clip)).status, 401)
  t.equal((await tus.head(location)).headers.get('upload-offset'), '0')
})

t.test('a cookie alone is not enough to upload', async t => {
  const { url, tus } = await setStage(t)
  const guest = await fetch(`${url}/v1/auth/guest`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"delivery":"cookie"}',
  })
  const cookie = guest.headers.get('set-cookie')!.split(';')[0]!
  const headers = {
    cookie,
    'tus-resumable': '1.0.0',
    'upload-length': '10',
    'upload-metadata': metadata('a.mp4'),
  }
  for (const [method, to] of [
    ['POST', tus.path],
    ['PATCH', `${tus.path}/0198f0a0-0000-7000-8000-000000000000`],
    ['DELETE', `${tus.path}/0198f0a0-0000-7000-8000-000000000000`],
  ] as const)
    t.equal((await fetch(url + to, { method, headers })).status, 403, method)
})

t.test('requests that are wrong', async t => {
  const { tus, client, heard } = await setStage(t)
  const location = (await tus.create(clip.length)).headers.get('location')!
  const bytes = { 'content-type': 'application/offset+octet-stream' }
  const cases: [string, number, Promise<Response>][] = [
    ['no version', 412, tus.call('HEAD', location, { 'tus-resumable': '' })],
    ['another version', 412, tus.call('POST', tus.path, { 'tus-resumable': '0.2.2', 'upload-length': '1' })],
    ['no length', 400, tus.create(1, 'a.mp4', { 'upload-length': '' })],
    ['a length that is none', 400, tus.create(1, 'a.mp4', { 'upload-length': '1e3' })],
    ['a negative length', 400, tus.create(1, 'a.mp4', { 'upload-length': '-1' })],
    [
      'a length to come',
      400,
      tus.call('POST', tus.path, { 'upload-defer-length': '1', 'upload-metadata': metadata('a.mp4') }),
    ],
    ['metadata that is none', 400, tus.create(1, 'a.mp4', { 'upload-metadata': 'filename %%%' })],
    ['a prototype', 400, tus.create(1, 'a.mp4', { 'upload-metadata': '__proto__ YQ==' })],
    ['no offset', 400, tus.call('PATCH', location, bytes, clip)],
    ['a wrong offset', 409, tus.patch(location, 5, clip)],
    ['an offset that is none', 400, tus.call('PATCH', location, { ...bytes, 'upload-offset': 'x' }, clip)],
    [
      'another content type',
      400,
      tus.call('PATCH', location, { 'content-type': 'video/mp4', 'upload-offset': '0' }, clip),
    ],
    ['too much', 413, tus.patch(location, 0, Buffer.concat([clip, clip]))],
  ]
  for (const [what, status, answer] of cases) {
    const { status: got, headers } = await answer
    t.equal(got, status, what)
    if (what !== 'no version') t.match(headers.get('content-type'), /problem\+json/, what)
  }
  t.equal((await tus.head(location)).headers.get('upload-offset'), '0', 'none of them left a byte')
  t.equal((await tus.patch(location, 0, clip)).status, 204)
  t.match(await ended(client, idOf(location)), { state: 'ready' })
  t.equal(heard().length, 1)
})

t.test('ended by the client', async t => {
  const { tus, client, spooled } = await setStage(t)
  const location = (await tus.create(clip.length)).headers.get('location')!
  await tus.patch(location, 0, clip.subarray(0, 5_000))
  t.equal((await tus.remove(location)).status, 204)
  t.equal((await tus.head(location)).status, 410)
  t.equal((await tus.patch(location, 5_000, clip.subarray(5_000))).status, 410)
  t.match(await client.get(`/v1/uploads/${idOf(location)}`), { state: 'failed' })
  t.same(await spooled(), [])
})

t.test('no room: refused before the first byte, and free again when one has ended', async t => {
  const { tus } = await setStage(t, { SPOOL_QUOTA_BYTES: String(clip.length * 2) })
  const first = (await tus.create(clip.length)).headers.get('location')!
  t.equal((await tus.create(clip.length)).status, 201)
  const full = await tus.create(1)
  t.equal(full.status, 507)
  t.match(await full.json(), {
    code: 'storage_full',
    retryAfterMs: Number,
    userState: { message: /no room/, action: { kind: 'wait', retryAt: String } },
  })
  await tus.remove(first)
  t.equal((await tus.create(clip.length)).status, 201)
})

t.test('one user cannot reserve everything', async t => {
  const { tus } = await setStage(t)
  const answers = await Promise.all(Array.from({ length: 14 }, () => tus.create(clip.length)))
  const statuses = answers.map(answer => answer.status).sort()
  t.same(statuses, [...Array(10).fill(201), ...Array(4).fill(429)])
})

t.test('what is spoken here', async t => {
  const { url, tus } = await setStage(t, { ALLOWED_ORIGINS: 'https://app.example.com' })
  const answer = await fetch(url + tus.path, { method: 'OPTIONS' })
  t.equal(answer.status, 204)
  t.equal(answer.headers.get('tus-version'), '1.0.0')
  t.equal(answer.headers.get('tus-max-size'), '500000000')
  const extensions = answer.headers.get('tus-extension')!.split(',')
  t.same(extensions.sort(), ['creation', 'creation-with-upload', 'expiration', 'termination'])
  const origin = { origin: 'https://app.example.com' }
  const preflight = await fetch(url + tus.path, {
    method: 'OPTIONS',
    headers: {
      ...origin,
      'access-control-request-method': 'PATCH',
      'access-control-request-headers': 'upload-offset',
    },
  })
  t.match(preflight.headers.get('access-control-allow-methods'), /PATCH/)
  t.equal(preflight.headers.get('access-control-allow-headers'), 'upload-offset')
  const created = await tus.create(10, 'a.mp4', origin)
  t.equal(created.headers.get('access-control-allow-origin'), origin.origin)
  t.match(created.headers.get('access-control-expose-headers'), /location.*upload-offset/)
})
