import t from 'tap'
import { alice, closedPort, createClient, json, startJournal } from './origin.ts'

const DRAFT = '{ "d":12345678901234567890.10,"t":[{"tt":0,"sg":[{"d":1000}]}],"x":"\\u00e9" }'

t.test('every call: path, method, headers and body as the contract has them', async t => {
  const origin = await startJournal(t, (heard, response) => {
    const path = heard.url
    if (path === '/api/auth/anonymous-token') json(response, 200, { code: 0, data: { token: 'nmv_usr_a' } })
    else if (path === '/api/auth/claim-token')
      json(response, 200, { code: 0, data: { claim_token: 'clm_a' } })
    else if (path.startsWith('/api/tasks'))
      json(response, 200, '{"code":0,"data":{"task_id":"t1","session_id":1789456123456789013}}')
    else if (path.startsWith('/api/credits'))
      json(response, 200, { code: 0, data: { available: 60, frozen: 40, total: 100 } })
    else if (path.startsWith('/api/state'))
      json(response, 200, `{"code":0,"data":{"state":{"draft":${DRAFT}}}}`)
    else if (path.startsWith('/api/upload-video'))
      json(response, 200, { code: 0, data: { files: [{ filename: 'a.mp4' }] } })
    else if (path.endsWith('/cancel')) response.writeHead(204).end()
    else if (path === '/api/render/proxy/lambda') json(response, 200, { success: true, data: { id: 'r1' } })
    else json(response, 200, { taskId: 'r1', status: 'processing', progress: 40 })
  })
  const client = createClient(t, origin.url)
  const ok = (value: unknown) => ({ kind: 'ok', value })

  t.match(
    await client.mintToken({ clientId: 'c-1', platform: 'ios' }),
    ok({ token: 'nmv_usr_a', expiresAt: null }),
  )
  t.match(
    await client.claimLink(alice, { taskId: 't1', sessionId: 's1' }),
    ok({ url: 'https://nemovideo.example/workspace/claim?ct=clm_a' }),
  )
  t.same(
    await client.createSession(alice, { name: 'project', language: 'zh-CN' }),
    ok({ taskId: 't1', sessionId: '1789456123456789013', userId: null }),
  )
  t.same(await client.credits(alice), ok({ available: 60, frozen: 40, total: 100 }))
  t.match(await client.state(alice, { sessionId: 's1' }), ok({ draft: DRAFT, media: [] }))
  t.match(
    await client.uploadUrls(alice, { sessionId: 's1', urls: ['https://a.example/a.mp4'] }),
    ok({ media: [{ name: 'a.mp4' }] }),
  )
  t.match(
    await client.submitRender(alice, {
      id: 'r1',
      sessionId: 's1',
      draft: DRAFT,
      format: 'mp4',
      quality: 'high',
    }),
    ok({ status: 'pending' }),
  )
  t.match(await client.render(alice, { id: 'r1' }), ok({ status: 'processing', progress: 40 }))
  t.same(await client.cancelRender(alice, { id: 'r1' }), ok(null))

  t.same(
    origin.journal.map(heard => [heard.method, heard.url, heard.body]),
    [
      ['POST', '/api/auth/anonymous-token', ''],
      ['POST', '/api/auth/claim-token', '{"task_id":"t1","session_id":"s1"}'],
      ['POST', '/api/tasks/me/with-session/nemo_agent', '{"task_name":"project","language":"zh-CN"}'],
      ['GET', '/api/credits/balance/simple', ''],
      ['GET', '/api/state/nemo_agent/me/s1/latest', ''],
      [
        'POST',
        '/api/upload-video/nemo_agent/me/s1',
        '{"urls":["https://a.example/a.mp4"],"source_type":"url"}',
      ],
      [
        'POST',
        '/api/render/proxy/lambda',
        `{"id":"r1","sessionId":"s1","output":{"format":"mp4","quality":"high"},"draft":${DRAFT}}`,
      ],
      ['GET', '/api/render/proxy/lambda/r1', ''],
      ['POST', '/api/render/proxy/lambda/r1/cancel', ''],
    ],
  )
  for (const [i, { headers, body }] of origin.journal.entries()) {
    const mint = i === 0
    t.match(headers, {
      'x-skill-source': 'reelgate',
      'x-skill-version': '1.2.3',
      'accept-encoding': 'identity',
    })
    t.equal(headers['x-skill-platform'], mint ? 'ios' : 'web')
    t.equal(headers.authorization, mint ? undefined : 'Bearer nmv_usr_alice')
    t.equal(headers['x-client-id'], mint ? 'c-1' : undefined)
    t.equal(headers['content-type'], body === '' ? undefined : 'application/json')
  }
})

t.test('a base with a path in front', async t => {
  const origin = await startJournal(t, (_, response) =>
    json(response, 200, { code: 0, data: { available: 1 } }),
  )
  const client = createClient(t, `${origin.url}/base/`)
  await client.credits(alice)
  t.equal(origin.journal[0]?.url, '/base/api/credits/balance/simple')
})

t.test('refusals come back as what they mean', async t => {
  let next: [number, unknown] = [200, {}]
  const origin = await startJournal(t, (_, response) => json(response, ...next, { 'retry-after': '2' }))
  const client = createClient(t, origin.url)
  const table: [number, unknown, object][] = [
    [200, { code: 1001, message: 'x' }, { kind: 'auth' }],
    [401, { detail: 'x' }, { kind: 'auth' }],
    [404, { detail: 'Session not found' }, { kind: 'session' }],
    [200, { code: 2001 }, { kind: 'refused', code: 'credits_exhausted' }],
    [402, {}, { kind: 'refused', code: 'upgrade_required' }],
    [429, {}, { kind: 'rate_limited', retryAfterMs: 2000 }],
    [503, {}, { kind: 'transient', delivered: 'unknown', cause: 'unavailable' }],
    [200, { code: 0, data: { other: 1 } }, { kind: 'protocol', delivered: 'unknown' }],
  ]
  for (const [status, body, expected] of table) {
    next = [status, body]
    t.same(await client.credits(alice), expected, JSON.stringify([status, body]))
  }
  next = [409, { success: false, error: 'exists' }]
  const render = { id: 'r1', sessionId: 's1', draft: '{}', format: 'mp4', quality: 'high' }
  t.same(await client.submitRender(alice, render), { kind: 'duplicate' })
  next = [404, { success: false, error: 'Render not found' }]
  t.same(await client.render(alice, { id: 'r1' }), { kind: 'not_found' })
  next = [200, { success: true, hello: 1 }]
  t.same(
    await client.submitRender(alice, render),
    { kind: 'protocol', delivered: 'unknown' },
    'no sign of acceptance',
  )
})

t.test('redirects are not followed', async t => {
  const elsewhere = await startJournal(t, (_, response) =>
    json(response, 200, { code: 0, data: { available: 1 } }),
  )
  const origin = await startJournal(t, (_, response) =>
    response.writeHead(307, { location: elsewhere.url }).end(),
  )
  const client = createClient(t, origin.url)
  t.same(await client.credits(alice), { kind: 'protocol', delivered: 'unknown' })
  t.equal((await client.mintToken({ clientId: 'c', platform: 'web' })).kind, 'protocol')
  t.equal(elsewhere.journal.length, 0, 'and the token went nowhere')
})

t.test('a minted token is not asked for twice', async t => {
  const origin = await startJournal(t, (_, response) => response.destroy())
  const client = createClient(t, origin.url)
  const lost = { kind: 'transient', delivered: 'unknown', cause: 'unavailable' }
  t.same(await client.mintToken({ clientId: 'c', platform: 'web' }), lost)
  t.equal(origin.journal.length, 1)
  const nobody = createClient(t, await closedPort())
  t.same(await nobody.mintToken({ clientId: 'c', platform: 'web' }), { ...lost, delivered: 'no' })
})

t.test('hostile ids, tokens and drafts never reach the wire, nor an error message', async t => {
  const origin = await startJournal(t, (_, response) => json(response, 200, {}))
  const client = createClient(t, origin.url)
  const evil = 'x/../../secret?a=b\r\nx: y'
  const signal = new AbortController().signal
  const render = { id: 'r1', sessionId: 's1', draft: '{}', format: 'mp4', quality: 'high' }
  const body = (async function* () {})()
  for (const [name, call] of Object.entries({
    state: () => client.state(alice, { sessionId: evil }),
    render: () => client.render(alice, { id: evil }),
    cancel: () => client.cancelRender(alice, { id: evil }),
    submit: () => client.submitRender(alice, { ...render, id: evil }),
    session: () => client.submitRender(alice, { ...render, sessionId: evil }),
    draft: () => client.submitRender(alice, { ...render, draft: '{},"sessionId":"secret"' }),
    run: () => client.run(alice, { sessionId: evil, text: 'x', signal }),
    urls: () => client.uploadUrls(alice, { sessionId: evil, urls: [] }),
    upload: () =>
      client.uploadFile(alice, { sessionId: evil, filename: 'a', mediaType: 'video/mp4', body, signal }),
    file: () =>
      client.openFile(alice, { id: evil, url: null, range: null, ifRange: null, ifNoneMatch: null, signal }),
    mint: () => client.mintToken({ clientId: evil, platform: 'web' }),
  })) {
    const error = await call().then(
      () => null,
      (thrown: unknown) => thrown,
    )
    t.type(error, TypeError, name)
    t.notMatch(String(error), /secret/, name)
  }
  const forged = { token: 'nmv_usr_secret\r\nx-admin: 1', platform: 'web\r\nx-admin: 1' }
  t.same(await client.credits(forged), { kind: 'auth' })
  t.same(await client.run(forged, { sessionId: 's', text: 'x', signal }), { kind: 'auth' })
  await client.credits({ ...alice, platform: forged.platform })
  t.equal(origin.journal.length, 1)
  t.equal(origin.journal[0]?.headers['x-skill-platform'], 'unknown')
})
