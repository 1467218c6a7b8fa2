import t from 'tap'
import type { Fault } from '../../sandbox/server.ts'
import { framesOf, jsonOf, mint, signIn, startSandbox, type User } from './helpers.ts'

async function kinds(user: User) {
  return (await user.state()).draft.t.map((track: { tt: number }) => track.tt)
}

const balance = '/api/credits/balance/simple'

t.test('an answer in place of the real one, for as many calls as asked', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const { faults } = sandbox
  faults.add({ on: 'credits', answer: 'code', code: 1001, times: 2 })
  for (let i = 0; i < 2; i++)
    t.match(await (await alice.get(balance)).json(), { code: 1001, message: 'invalid token' })
  t.match(await (await alice.get(balance)).json(), { code: 0 })

  faults.add({ on: 'credits', answer: 'status', status: 429, retryAfter: 2, skip: 1 })
  t.equal((await alice.get(balance)).status, 200)
  const limited = await alice.get(balance)
  t.equal(limited.status, 429)
  t.equal(limited.headers.get('retry-after'), '2')

  faults.add({ on: 'credits', answer: 'html' })
  t.match(await (await alice.get(balance)).text(), /<html>/)
  faults.add({ on: 'credits', answer: 'empty' })
  t.equal(await (await alice.get(balance)).text(), '')
  faults.add({ on: 'credits', answer: 'garbage' })
  await t.rejects((await alice.get(balance)).json())
  faults.add({ on: 'credits', answer: 'content_type', contentType: 'text/plain' })
  t.equal((await alice.get(balance)).headers.get('content-type'), 'text/plain')
  faults.add({ on: 'credits', answer: 'detail', detail: 'token not found', status: 401 })
  t.strictSame(await (await alice.get(balance)).json(), { detail: 'token not found' })

  const began = Date.now()
  faults.add({ on: 'credits', answer: 'slow', ms: 30 })
  await alice.get(balance)
  t.ok(Date.now() - began >= 30)

  faults.add({ on: 'credits', answer: 'code', code: 2001 })
  faults.clear()
  t.match(await (await alice.get(balance)).json(), { code: 0 })
  t.strictSame(
    sandbox
      .journal()
      .filter(entry => entry.fault)
      .map(entry => entry.accepted),
    [false, false, false, false, false, false, true, false, true],
  )
})

t.test('a lost answer may have been acted upon', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  sandbox.faults.add({ on: 'run', answer: 'reset' })
  await t.rejects(alice.run('add a title "One"'))
  sandbox.faults.add({ on: 'run', answer: 'reset', act: false })
  await t.rejects(alice.run('add music'))
  sandbox.faults.add({ on: 'mint', answer: 'html', act: true })
  t.equal((await mint(sandbox.url, 'carol')).status, 502)
  t.equal((await mint(sandbox.url, 'carol')).status, 429, 'the token was minted and is lost')
  const runs = sandbox.journal().filter(entry => entry.endpoint === 'run')
  t.match(runs, [
    { text: 'add a title "One"', accepted: true },
    { text: 'add music', accepted: false },
  ])
  while ((await alice.state()).draft.t.length === 0) await new Promise(setImmediate)
  t.strictSame(await kinds(alice), [7])
})

t.test('an answer that never comes', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  sandbox.faults.add({ on: 'state', answer: 'hang' })
  const path = `${sandbox.url}/api/state/nemo_agent/me/${alice.sessionId}/latest`
  await t.rejects(fetch(path, { headers: alice.headers, signal: AbortSignal.timeout(30) }), {
    name: 'TimeoutError',
  })
  t.match(sandbox.journal().at(-1), { endpoint: 'state', answer: 'hang', accepted: true })
})

t.test('a stream can end in every way', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const read = async (fault: Fault) => {
    sandbox.faults.add(fault)
    const answer = await alice.run('hello', { streaming: true })
    t.equal(answer.status, 200)
    let body = ''
    try {
      for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) body += chunk
      return { body, broken: false }
    } catch {
      return { body, broken: true }
    }
  }
  for (const how of ['fin', 'rst', 'end'] as const) {
    const { body, broken } = await read({ on: 'run', answer: 'cut', frames: 2, how })
    t.equal(broken, how !== 'end', how)
    t.equal(body.split('\n\n').length, 3, 'two whole frames and a part')
    t.not(body.split('\n\n').at(-1), '')
  }
  t.equal((await read({ on: 'run', answer: 'no_frames' })).body, '')
  t.match(
    (await read({ on: 'run', answer: 'error_frame', frames: 1 })).body,
    /"errorCode":"RESOURCE_EXHAUSTED"/,
  )
  t.match((await read({ on: 'run', answer: 'error_frame', spelling: 'error' })).body, /^data: \{"error":"/)
  t.match((await read({ on: 'run', answer: 'error_frame', spelling: 'details' })).body, /"error_details":/)
  t.match(
    (await read({ on: 'run', answer: 'error_frame', spelling: 'raw' })).body,
    /"boom"\nline two"\}\n\n$/,
  )
  t.match((await read({ on: 'run', answer: 'trailing_issue' })).body, /temporary issue[^\n]*\n\n$/)
  t.match((await read({ on: 'run', answer: 'framing', framing: 'crlf' })).body, /\}\r\n\r\ndata/)
  t.match(
    (await read({ on: 'run', answer: 'shape', shape: 'typed' })).body,
    /^data: \{"type":"text","content":"I can/,
  )
  t.match(
    (await read({ on: 'run', answer: 'heartbeats', everyMs: 1, ms: 10 })).body,
    /^: heartbeat\n\ndata:\n\n/,
  )
  t.match((await read({ on: 'run', answer: 'bad_frame', frames: 1 })).body, /"half\n\ndata: \{"invocationId"/)
  const same = framesOf((await read({ on: 'run', answer: 'repeat_ids' })).body)
  t.equal(new Set(same.map(frame => frame.id)).size, 1)

  const began = Date.now()
  await read({ on: 'run', answer: 'silence', frames: 1, ms: 40 })
  t.ok(Date.now() - began >= 40)
})

t.test('a run that failed changes nothing', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  sandbox.faults.add({ on: 'run', answer: 'error_frame', frames: 1 })
  await (await alice.run('add music')).text()
  await (await alice.run('add a title "One"')).text()
  t.strictSame(await kinds(alice), [7])
  const runs = sandbox.journal().filter(entry => entry.endpoint === 'run')
  t.strictSame(
    runs.map(entry => entry.overlap),
    [false, false],
  )
})

t.test('the door takes the same faults, from programs only', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  const door = (body: object, type = 'application/json') =>
    fetch(`${sandbox.url}/__sandbox/faults`, {
      method: 'POST',
      headers: { 'content-type': type },
      body: JSON.stringify(body),
    })
  t.equal((await door({ on: 'credits', answer: 'code', code: 2001 })).status, 201)
  t.match(await (await alice.get(balance)).json(), { code: 2001 })
  for (const wrong of [
    { on: 'nothing', answer: 'html' },
    { on: 'run', answer: 'odd' },
    { on: 'mint', answer: 'cut' },
  ]) {
    t.equal((await door(wrong)).status, 400)
  }
  t.equal((await door({ on: 'credits', answer: 'html' }, 'text/plain')).status, 415)
  await door({ revokeToken: 'all' })
  t.match(await (await alice.get(balance)).json(), { code: 1001 })

  const { items } = await jsonOf(await fetch(`${sandbox.url}/__sandbox/journal`))
  t.strictSame(items, sandbox.journal())
})
