import t from 'tap'
import {
  decodeClaim,
  decodeCredits,
  decodeFileUrl,
  decodeMint,
  decodeRender,
  decodeSession,
  decodeState,
  decodeUpload,
} from '../../../src/services/upstream/wire.ts'

const state = (value: unknown) => {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return decodeState(JSON.parse(text), text)
}

t.test('a token in either place', async t => {
  const inner = { token: 'nmv_usr_a', user_id: 'anon_1', expires_at: '2026-05-08T00:00:00Z', credits: 100 }
  const expected = { token: 'nmv_usr_a', userId: 'anon_1', expiresAt: new Date('2026-05-08T00:00:00Z') }
  t.same(decodeMint({ code: 0, data: inner }), expected)
  t.same(decodeMint({ code: 0, ...inner }), expected)
  t.same(decodeMint({ code: 0, token: 'x', data: { credits: 100 } }), {
    token: 'x',
    userId: null,
    expiresAt: null,
  })
  t.same(decodeMint({ data: { token: 'x', user_id: 'a b', expires_at: 'soon' } }), {
    token: 'x',
    userId: null,
    expiresAt: null,
  })
  t.equal(decodeMint({ code: 0, data: {} }), null)
  t.equal(decodeMint({ token: 7 }), null)
})

t.test('a claim link carries the claim token and never an access token', async t => {
  const url = 'https://nemovideo.example/workspace/claim?ct=clm_a'
  const web = 'https://nemovideo.example'
  t.same(decodeClaim({ data: { claim_token: 'clm_a', expires_in: 60 } }, web), { url, expiresInMs: 60_000 })
  t.same(decodeClaim({ data: { claim_token: 'clm_a' } }, web), { url, expiresInMs: 604_800_000 })
  for (const token of ['nmv_usr_a', 'a b', 'a&b=c', '', 7]) {
    t.equal(decodeClaim({ data: { claim_token: token } }, web), null, String(token))
  }
})

t.test('session ids keep every digit, as a string and as a number', async t => {
  const expected = { taskId: 't_1', sessionId: '1789456123456789013', userId: null }
  t.same(decodeSession('{"code":0,"data":{"task_id":"t_1","session_id":"1789456123456789013"}}'), expected)
  t.same(
    decodeSession('{"code":0,"data":{"task_id":"t_1","session_id":1789456123456789013,"user_id":null}}'),
    expected,
  )
  t.same(decodeSession('{"task_id":"t_1","session_id":"s","user_id":"anon_1"}')?.userId, 'anon_1')
  for (const id of ['"a/b"', 'null', '""', '{}', '1.5', '-1e5.0']) {
    t.equal(decodeSession(`{"data":{"task_id":"t","session_id":${id}}}`), null, id)
  }
  t.equal(decodeSession('{"data":{"session_id":"s"}}'), null)
})

t.test('uploaded files: seconds become ms, links become ids', async t => {
  const file = {
    filename: 'cat.mp4',
    file_type: 'video',
    cdn_url: 'https://cdn.example/a/cat.mp4?sig=1',
    duration: 12.34,
  }
  const [media] =
    decodeUpload({ data: { files: [{ ...file, width: 1080, height: 1920, fps: 30, hash: 'h' }] } }) ?? []
  t.match(media, { kind: 'video', name: 'cat.mp4', durationMs: 12340, width: 1080, height: 1920 })
  t.match(media?.id, /^[0-9a-f]{32}$/)
  t.notMatch(JSON.stringify(media), /cdn/)
  const [again] = decodeUpload({ files: [{ ...file, cdn_url: 'https://cdn.example/a/cat.mp4?sig=2' }] }) ?? []
  t.equal(again?.id, media?.id, 'a new signature is no new file')
  const [other] = decodeUpload({ files: [{ ...file, cdn_url: 'https://cdn.example/b/cat.mp4' }] }) ?? []
  t.not(other?.id, media?.id)
  t.match(decodeUpload({ data: { files: [{ filename: 'a.PNG', duration: null, width: 'x' }, 7, null] } }), [
    { kind: 'image', name: 'a.PNG' },
  ])
  t.equal(decodeUpload({ data: {} }), null)
})

t.test('credits', async t => {
  t.same(decodeCredits({ data: { available: 60, frozen: 40, total: 100 } }), {
    available: 60,
    frozen: 40,
    total: 100,
  })
  t.same(decodeCredits({ data: { available: 60 } }), { available: 60, frozen: 0, total: 60 })
  t.equal(decodeCredits({ data: {} }), null)
  t.equal(decodeCredits({ data: { available: 'many' } }), null)
})

t.test('the draft comes out byte for byte', async t => {
  const draft = '{ "d":12345678901234567890.10, "t":[],"m":{"title":"\\u00e9\\ud800"} }'
  t.equal(
    state(`{"code":0,"data":{"session_id":1,"state":{"draft":${draft},"video_infos":null}}}`)?.draft,
    draft,
  )
  t.equal(state(`{"state":{"draft":${draft}}}`)?.draft, draft, 'without an envelope')
  t.equal(state('{"data":{"state":{"draft":"<draft a=\\"1\\"/>"}}}')?.draft, '"<draft a=\\"1\\"/>"')
})

t.test('any key of the state may be missing or null', async t => {
  for (const value of [
    { data: {} },
    { data: { state: null } },
    { data: { state: {} } },
    { data: { state: { draft: null } } },
  ]) {
    const decoded = state(value)
    t.same([decoded?.draft, decoded?.media], [null, []], JSON.stringify(value))
    t.equal(decoded?.fingerprint, state({ data: {} })?.fingerprint)
  }
  t.equal(state({ code: 0 }), null)
  t.equal(state({ code: 0, data: null, hello: 1 }), null)
})

t.test('the fingerprint changes with the draft and the media, not with signatures', async t => {
  const of = (inner: object) => state({ data: { state: inner } })?.fingerprint
  const info = (query: string) => [{ name: 'a.mp4', url: `https://cdn.example/a.mp4?${query}` }]
  const base = of({ draft: { t: [] }, video_infos: info('sig=1') })
  t.equal(of({ draft: { t: [] }, video_infos: info('sig=2') }), base)
  t.equal(of({ draft: { t: [] }, video_infos: info('sig=1'), canvas_config: { w: 1 } }), base)
  t.not(of({ draft: { t: [1] }, video_infos: info('sig=1') }), base)
  t.not(of({ draft: { t: [] }, video_infos: [] }), base)
  t.not(of({ draft: { t: [] }, video_infos: info('sig=1'), generated_media: { job: 'running' } }), base)
  t.not(of({ draft: 'ab' }), of({ draft: 'a' }))
})

t.test('media of the state: lists and maps, each once', async t => {
  const clip = { filename: 'a.mp4', url: 'https://cdn.example/a.mp4' }
  t.equal(
    state({ data: { state: { video_infos: [clip, clip], generated_media: { x: clip } } } })?.media.length,
    1,
  )
  t.match(state({ data: { state: { generated_media: { bgm: [{ name: 'lofi.mp3' }] } } } })?.media, [
    { kind: 'audio' },
  ])
})

t.test('a render in both shapes', async t => {
  const done = {
    status: 'completed',
    progress: 100,
    url: 'https://cdn.example/r.mp4',
    bytes: 5000,
    durationMs: 10500,
  }
  const output = { url: 'https://cdn.example/r.mp4', duration: 10.5, size: 5000 }
  t.same(decodeRender({ taskId: 'r', status: 'completed', progress: 100, output }), done)
  const b = {
    id: 'r',
    status: 'completed',
    progress: 100,
    outputUrl: 'https://cdn.example/r.mp4',
    createdAt: 1,
  }
  t.same(decodeRender({ success: true, data: b }), { ...done, bytes: null, durationMs: null })
  t.same(decodeRender({ success: true, data: { status: 'pending', progress: 5 } }), {
    ...{ status: 'pending', progress: 5, url: null, bytes: null, durationMs: null },
  })
  t.equal(decodeRender({ success: true, data: { status: 'failed', error: 'x' } })?.status, 'failed')
  t.equal(decodeRender({ status: 'PROCESSING', progress: 400 })?.progress, 100)
  for (const status of ['', 'constructor', 'sleeping', 7, null])
    t.equal(decodeRender({ status }), null, String(status))
})

t.test('only http and https links are files', async t => {
  t.equal(decodeFileUrl({ output: { url: 'https://cdn.example/r.mp4' } }), 'https://cdn.example/r.mp4')
  t.equal(decodeFileUrl({ output: 'http://cdn.example/r.mp4' }), 'http://cdn.example/r.mp4')
  for (const url of ['javascript:alert(1)', 'data:text/html,x', 'file:///etc/passwd', '/r.mp4', '', 7]) {
    t.equal(decodeFileUrl({ output: { url } }), null, String(url))
  }
})
