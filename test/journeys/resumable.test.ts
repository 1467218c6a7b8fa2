import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir, stat } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import * as tusJs from 'tus-js-client'
import { type Client, type Json, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { type Gateway, startGateway, temporaryFolder, until } from '../helpers/gateway.ts'
import { idOf, metadata, tusClient } from '../helpers/tus.ts'
import { startSandbox } from '../sandbox/helpers.ts'
import { clip } from '../services/uploads/stage.ts'

const CUTS = 20

// Most of their time is spent waiting for a dead process to be noticed.
t.jobs = 5

/** Real processes over one database, one folder and one sandbox. */
async function setStage(t: Test, count: number) {
  const sandbox = await startSandbox(t)
  const env = {
    DATABASE_URL: await testDatabaseUrl(t),
    NEMO_API_URL: sandbox.url,
    DATA_DIR: await temporaryFolder(t),
  }
  // One after the other: the first one makes the schema.
  const instances: Gateway[] = []
  while (instances.length < count) instances.push(await startGateway(t, env))
  const client = await signIn(instances[0]!.url)
  return {
    sandbox,
    instances,
    client,
    projectId: await client.project(),
    start: () => startGateway(t, env),
    spool: join(env.DATA_DIR, 'spool'),
    accepted: () => sandbox.journal().filter(entry => entry.endpoint === 'upload' && entry.accepted),
  }
}

const film = (bytes: number) => Buffer.concat([clip, randomBytes(bytes - clip.length)])
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

const ended = (client: Client, id: string): Promise<Json> =>
  until(async () => {
    const upload = await client.get(`/v1/uploads/${id}`).catch(() => ({}))
    return (upload.state === 'ready' || upload.state === 'failed') && upload
  }, 60_000)

/** A phone on a train: the connection breaks off after so many bytes each time, and the next one ends elsewhere. */
async function startTrain(t: Test, instances: Gateway[], cuts: number[]) {
  let [sent, connections] = [0, 0]
  const sockets = new Set<Socket>()
  const left = [...cuts]
  const server = createServer(socket => {
    sockets.add(socket)
    // Two connections for each cut: one to ask for the offset, one to go on.
    const { hostname, port } = new URL(instances[Math.floor(++connections / 2) % instances.length]!.url)
    const onwards = connect(Number(port), hostname)
    for (const [one, other] of [
      [socket, onwards],
      [onwards, socket],
    ] as const) {
      one.on('error', () => {})
      one.once('close', () => other.destroy())
    }
    onwards.pipe(socket)
    socket.on('data', chunk => {
      if (left.length > 0 && sent + chunk.length > left[0]!) {
        const last = chunk.subarray(0, left[0]! - sent)
        sent = left.shift()!
        socket.pause()
        onwards.write(last, () => {
          socket.resetAndDestroy()
          onwards.resetAndDestroy()
        })
        return
      }
      sent += chunk.length
      if (!onwards.write(chunk)) {
        socket.pause()
        onwards.once('drain', () => socket.resume())
      }
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, left: () => left.length }
}

function randomOffsets(bytes: number) {
  const offsets = Array.from({ length: CUTS }, () => Math.floor(Math.random() * bytes))
  return offsets.sort((a, b) => a - b)
}

t.test('tus-js-client, cut at 20 random offsets, each time resumed at another instance', async t => {
  const { instances, client, projectId, accepted } = await setStage(t, 2)
  const bytes = film(6_000_000)
  const cuts = randomOffsets(bytes.length)
  const train = await startTrain(t, instances, cuts)
  const url = await new Promise<string>((resolve, reject) => {
    const upload = new tusJs.Upload(bytes, {
      endpoint: `${train.url}/v1/projects/${projectId}/uploads/resumable`,
      headers: { authorization: `Bearer ${client.token}` },
      metadata: { filename: 'train.mp4', filetype: 'video/mp4' },
      retryDelays: Array(CUTS + 10).fill(10),
      onError: reject,
      onSuccess: () => resolve(upload.url!),
    })
    upload.start()
  })
  t.equal(train.left(), 0, `all of them: ${cuts}`)
  t.match(await ended(client, idOf(url)), { state: 'ready', bytes: bytes.length })
  t.match(accepted(), [{ sha256: sha256(bytes) }])
})

t.test('Uppy, cut on its way', async t => {
  const { instances, client, projectId, accepted } = await setStage(t, 2)
  const bytes = film(3_000_000)
  const train = await startTrain(t, instances, [500_000, 1_000_000, 2_500_000])
  // By names that the compiler does not follow: their types bring the browser's with them.
  const [core, plugin] = ['@uppy/core', '@uppy/tus']
  const { Uppy } = await import(core!)
  const { default: UppyTus } = await import(plugin!)
  const uppy = new Uppy().use(UppyTus, {
    endpoint: `${train.url}/v1/projects/${projectId}/uploads/resumable`,
    headers: { authorization: `Bearer ${client.token}` },
    retryDelays: Array(10).fill(10),
    // In Node, tus-js-client reads no Blob.
    fileReader: { openFile: async (blob: Blob) => sourceOf(Buffer.from(await blob.arrayBuffer())) },
  })
  uppy.addFile({ name: 'summer.mp4', type: 'video/mp4', data: new Blob([bytes], { type: 'video/mp4' }) })
  const result = await uppy.upload()
  t.same(result?.failed, [])
  t.equal(train.left(), 0)
  const id = idOf(result!.successful![0]!.uploadURL!)
  t.match(await ended(client, id), { state: 'ready', filename: 'summer.mp4', mediaType: 'video/mp4' })
  t.match(accepted(), [{ sha256: sha256(bytes) }])
  uppy.destroy()
})

const sourceOf = (bytes: Buffer) => ({
  size: bytes.length,
  slice: async (start: number, end: number) => ({
    value: Object.assign(bytes.subarray(start, end), { size: Math.min(end, bytes.length) - start }),
    done: end >= bytes.length,
  }),
  close() {},
})

t.test('kill -9 while spooling: what arrived is there, and it goes on at the next process', async t => {
  const { instances, client, projectId, accepted, start, spool } = await setStage(t, 1)
  const bytes = film(4_000_000)
  const location = (await tusClient(client, projectId).create(bytes.length)).headers.get('location')!
  const { outgoing } = tusClient(client, projectId).open(location, 0, bytes.length)
  outgoing.write(bytes.subarray(0, 2_000_000))
  const kept = await until(async () => {
    const { size } = await stat(join(spool, idOf(location)))
    return size > 1_000_000 && size
  })
  instances[0]!.kill('SIGKILL')
  await instances[0]!.ended
  outgoing.destroy()
  const later = client.at((await start()).url)
  const tus = tusClient(later, projectId)
  const offset = Number((await tus.head(location)).headers.get('upload-offset'))
  t.ok(offset >= kept, `${offset} of ${kept}`)
  t.equal((await tus.patch(location, offset, bytes.subarray(offset))).status, 204)
  t.match(await ended(later, idOf(location)), { state: 'ready' })
  t.match(accepted(), [{ sha256: sha256(bytes) }])
})

t.test('kill -9 while forwarding, before and after the backend took it: it arrives once', async t => {
  const { sandbox, instances, client, projectId, accepted, start, spool } = await setStage(t, 1)
  const uploads: { id: string; bytes: Buffer }[] = []
  for (const [act, project] of [
    [false, projectId],
    [true, await client.project()],
  ] as const) {
    sandbox.faults.add({ on: 'upload', answer: 'hang', act })
    const tus = tusClient(client, project)
    const bytes = film(clip.length + 1_000)
    const location = (await tus.create(bytes.length)).headers.get('location')!
    t.equal((await tus.patch(location, 0, bytes)).status, 204)
    uploads.push({ id: idOf(location), bytes })
    await until(
      async () => sandbox.journal().filter(entry => entry.endpoint === 'upload').length === uploads.length,
    )
  }
  instances[0]!.kill('SIGKILL')
  await instances[0]!.ended
  const later = client.at((await start()).url)
  for (const { id, bytes } of uploads)
    t.match(await ended(later, id), { state: 'ready', bytes: bytes.length })
  t.same(
    accepted()
      .map(entry => entry.sha256)
      .sort(),
    uploads.map(({ bytes }) => sha256(bytes)).sort(),
    'each once',
  )
  await until(async () => (await readdir(spool)).length === 1)
})

t.test('metadata as phones send it', async t => {
  const { client, projectId } = await setStage(t, 1)
  const tus = tusClient(client, projectId)
  for (const [header, filename] of [
    [metadata('IMG_0001.MOV', 'video/quicktime'), 'IMG_0001.MOV'],
    [`name ${Buffer.from('夏天.mp4').toString('base64')},relativePath bnVsbA==`, '夏天.mp4'],
    [`filename ${Buffer.from('../../etc/a\0b.mp4').toString('base64')},empty`, 'ab.mp4'],
  ] as const) {
    const created = await tus.create(10, '', { 'upload-metadata': header })
    t.equal(created.status, 201)
    t.match(await client.get(`/v1/uploads/${idOf(created.headers.get('location')!)}`), { filename })
    t.equal((await tus.head(created.headers.get('location')!)).headers.get('upload-metadata'), header)
  }
})
