import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import t from 'tap'
import { readMultipart } from '../../sandbox/multipart.ts'
import { signIn, startSandbox, type User } from './helpers.ts'

const clip = readFileSync(new URL('../../demo/clip.mp4', import.meta.url))
const sha256 = createHash('sha256').update(clip).digest('hex')

function send(url: string, user: User, field: string, ...names: string[]) {
  const form = new FormData()
  for (const name of names) form.append(field, new Blob([clip]), name)
  const path = `/api/upload-video/nemo_agent/me/${user.sessionId}`
  return fetch(url + path, { method: 'POST', headers: user.headers, body: form })
}

t.test('a film is counted, described and laid into the empty draft', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const answer = await (await send(sandbox.url, alice, 'files', 'beach day.mp4', 'song.mp3')).json()
  t.match(answer, {
    code: 0,
    data: {
      files: [
        { filename: 'beach day.mp4', file_type: 'video', duration: 5, width: 640, height: 360, hash: sha256 },
        { filename: 'song.mp3', file_type: 'audio', width: null },
      ],
      session_state_applied: true,
    },
  })
  const entry = sandbox.journal().at(-1)
  t.match(entry, { endpoint: 'upload', bytes: 2 * clip.length, sha256, accepted: true, answer: 'ok' })
  const state = await alice.state()
  t.equal(state.video_infos.length, 2)
  t.match(state.draft.t, [{ tt: 0, sg: [{ d: 5000, m: { title: 'beach day' } }] }])
  t.equal(state.draft.t.length, 1)
})

t.test('what is refused leaves no trace', async t => {
  const sandbox = await startSandbox(t, { maxUploadBytes: clip.length - 1 })
  const alice = await signIn(sandbox.url)
  t.match(await (await send(sandbox.url, alice, 'files', 'notes.txt')).json(), { code: 4001 })
  t.match(await (await send(sandbox.url, alice, 'files', 'beach.mp4')).json(), { code: 4002 })
  t.equal((await send(sandbox.url, alice, 'file', 'beach.mp4')).status, 422)
  t.match(await (await send(sandbox.url, { ...alice, sessionId: '1' }, 'files', 'a.mp4')).json(), {
    code: 1002,
  })
  t.notOk('video_infos' in (await alice.state()))
})

t.test('links are taken by their names', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const path = `/api/upload-video/nemo_agent/me/${alice.sessionId}`
  const post = async (body: object) => (await alice.post(path, body)).json()
  const urls = ['https://example.org/a/beach.mov?x=1']
  t.match(await post({ urls, source_type: 'url' }), { code: 0, data: { files: [{ filename: 'beach.mov' }] } })
  t.match(await post({ urls: ['https://example.org/a.exe'], source_type: 'url' }), { code: 4001 })
  t.match(await post({ urls }), { detail: [{ loc: ['body', 'source_type'] }] })
  t.match(await post({ urls: ['file:///etc/passwd.mp4'], source_type: 'url' }), { detail: [{}] })
})

t.test('a body that breaks off is nothing', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const socket = connect(Number(new URL(sandbox.url).port), '127.0.0.1')
  const headers = Object.entries(alice.headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const head = `POST /api/upload-video/nemo_agent/me/${alice.sessionId} HTTP/1.1\r\nhost: x\r\n${headers.join('')}`
  const part = '--b\r\ncontent-disposition: form-data; name="files"; filename="a.mp4"\r\n\r\nhalf'
  await new Promise(resolve =>
    socket.write(
      `${head}content-type: multipart/form-data; boundary=b\r\ncontent-length: 1000\r\n\r\n${part}`,
      resolve,
    ),
  )
  socket.destroy()
  await t.resolves(
    (async () => {
      while (sandbox.journal().at(-1)?.endpoint !== 'upload') await new Promise(setImmediate)
    })(),
  )
  t.match(sandbox.journal().at(-1), { accepted: false, answer: 'aborted' })
  t.notOk('video_infos' in (await alice.state()))
})

t.test('multipart is the same however it is cut', async t => {
  const parts = ['one\r\n--b', '', '\r\n', '--b--']
  const heads = parts.map(
    (_, i) => `--bound\r\nContent-Disposition: form-data; filename="ü ${i}%22.mp4"; name="files"`,
  )
  const body = Buffer.from(
    `${heads.map((head, i) => `${head}\r\n\r\n${parts[i]}\r\n`).join('')}--bound--\r\n`,
  )
  const read = async (...chunks: Buffer[]) => {
    const found: [string, string][] = []
    await readMultipart(
      (async function* () {
        yield* chunks
      })(),
      'bound',
      ({ filename }) => {
        let text = ''
        return { write: bytes => (text += bytes), end: () => found.push([filename ?? '', text]) }
      },
    )
    return found
  }
  const expected = parts.map((text, i) => [`ü ${i}".mp4`, text])
  for (let at = 0; at <= body.length; at++) {
    const found = await read(body.subarray(0, at), body.subarray(at))
    if (JSON.stringify(found) !== JSON.stringify(expected)) t.strictSame(found, expected, `cut at ${at}`)
  }
  t.strictSame(await read(...Array.from(body, (_, i) => body.subarray(i, i + 1))), expected)
  await t.rejects(read(body.subarray(0, -6)), /closing boundary/)
  await t.rejects(read(Buffer.from('x'), body), /no boundary/)
  await t.rejects(read(Buffer.from('--bound\r\nX: y\r\n\r\n\r\n--bound--')), /without a name/)
})
