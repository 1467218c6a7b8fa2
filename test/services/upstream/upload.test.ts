import { createHash } from 'node:crypto'
import { once } from 'node:events'
import fastifyMultipart from '@fastify/multipart'
import Fastify from 'fastify'
import t from 'tap'
import type { FileUpload } from '../../../src/services/upstream/upload.ts'
import { alice, closedPort, createClient, json, startJournal, startOrigin } from './origin.ts'

async function* bytes(...chunks: (string | Uint8Array)[]) {
  for (const chunk of chunks) yield Buffer.from(chunk)
}

const file = (more: Partial<FileUpload> = {}): FileUpload => ({
  sessionId: 's1',
  filename: 'cat.mp4',
  mediaType: 'video/mp4',
  body: bytes('first ', 'second'),
  signal: new AbortController().signal,
  ...more,
})

/** A server that reads multipart as any server does, to tell what it understood. */
async function startParser(t: { teardown(work: () => unknown): void }) {
  const app = Fastify()
  await app.register(fastifyMultipart, { limits: { fileSize: 1e9 } })
  app.post('/api/upload-video/nemo_agent/me/s1', async request => {
    const files = []
    for await (const part of request.files()) {
      const hash = createHash('sha256')
      for await (const chunk of part.file) hash.update(chunk)
      files.push({
        filename: part.filename,
        file_type: part.mimetype,
        hash: `${part.fieldname} ${hash.digest('hex')}`,
      })
    }
    seen.push(...files)
    return { code: 0, data: { files } }
  })
  const seen: { filename: string; file_type: string; hash: string }[] = []
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return { url, seen }
}

t.test('a file arrives whole, under its name and type', async t => {
  const { url, seen } = await startParser(t)
  const client = createClient(t, url)
  const megabyte = Buffer.alloc(1 << 20, 'abc')
  const body = bytes(...Array<Buffer>(8).fill(megabyte))
  const outcome = await client.uploadFile(alice, file({ body, filename: 'Zażółć "映像".mp4' }))
  t.match(outcome, { kind: 'ok', value: { media: [{ kind: 'video' }] } })
  const hash = createHash('sha256')
  for (let i = 0; i < 8; i++) hash.update(megabyte)
  t.same(seen, [
    { filename: 'Zażółć %22映像%22.mp4', file_type: 'video/mp4', hash: `files ${hash.digest('hex')}` },
  ])
})

t.test('a name or type cannot write headers or further parts', async t => {
  const origin = await startJournal(t, (_, response) => json(response, 200, { code: 0, data: { files: [] } }))
  const client = createClient(t, origin.url)
  const evil = 'a"\r\ncontent-type: text/html\r\n\r\n--x\0.mp4'
  await client.uploadFile(alice, file({ filename: evil, mediaType: 'video/mp4\r\nx: y' }))
  const [heard] = origin.journal
  const boundary = /boundary=(\S+)/.exec(heard?.headers['content-type'] ?? '')?.[1]
  t.equal(
    heard?.body,
    [
      `--${boundary}`,
      'content-disposition: form-data; name="files"; filename="a%22%0D%0Acontent-type: text/html%0D%0A%0D%0A--x.mp4"',
      'content-type: application/octet-stream',
      '',
      'first second',
      `--${boundary}--`,
      '',
    ].join('\r\n'),
  )
  t.match(heard?.headers, { authorization: 'Bearer nmv_usr_alice', 'transfer-encoding': 'chunked' })
})

t.test('the source is read no faster than the upstream takes it', async t => {
  const origin = await startOrigin(t, () => {})
  const client = createClient(t, origin.url)
  const controller = new AbortController()
  let pulled = 0
  const body = (async function* () {
    while (true) {
      pulled++
      yield Buffer.alloc(1 << 20)
    }
  })()
  const uploading = client.uploadFile(alice, file({ body, signal: controller.signal }))
  await once(origin.server, 'request')
  let before = -1
  while (pulled !== before) {
    before = pulled
    await new Promise(resolve => setTimeout(resolve, 60))
  }
  t.ok(pulled < 32, `${pulled} MB were read for a server that reads nothing`)
  controller.abort()
  t.same(await uploading, { kind: 'aborted' })
})

t.test('who broke off is told apart', async t => {
  const destroying = await startOrigin(t, (request, response) =>
    request.once('data', () => response.destroy()),
  )
  const unavailable = { kind: 'transient', delivered: 'unknown', cause: 'unavailable' }
  const endless = (async function* () {
    while (true) yield Buffer.alloc(1 << 16)
  })()
  t.same(await createClient(t, destroying.url).uploadFile(alice, file({ body: endless })), unavailable)

  const reading = await startOrigin(t, request => request.resume())
  const broken = (async function* () {
    yield Buffer.from('a')
    throw new Error('the app left')
  })()
  t.same(await createClient(t, reading.url).uploadFile(alice, file({ body: broken })), { kind: 'aborted' })

  const nobody = createClient(t, await closedPort())
  t.same(await nobody.uploadFile(alice, file()), { ...unavailable, delivered: 'no' })
})

t.test('a refusal before the file was read', async t => {
  const origin = await startOrigin(t, (_, response) =>
    json(response, 413, { code: 4002, message: 'too large' }),
  )
  let pulled = 0
  const body = (async function* () {
    for (; pulled < 500; pulled++) {
      yield Buffer.alloc(1 << 16)
      await new Promise(setImmediate)
    }
  })()
  const outcome = await createClient(t, origin.url).uploadFile(alice, file({ body }))
  t.same(outcome, { kind: 'refused', code: 'file_too_large' })
  t.ok(pulled < 500, 'the rest is not sent')
})

t.test('refused kinds of file', async t => {
  const origin = await startJournal(t, (_, response) => json(response, 200, { code: 4001, message: 'x' }))
  const client = createClient(t, origin.url)
  const refused = { kind: 'refused', code: 'unsupported_media' }
  t.same(await client.uploadFile(alice, file()), refused)
  t.same(await client.uploadUrls(alice, { sessionId: 's1', urls: ['https://a.example/x'] }), refused)
})
