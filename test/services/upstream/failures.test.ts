import t from 'tap'
import {
  classify,
  classifyRender,
  failureOfCode,
  parseRetryAfter,
} from '../../../src/services/upstream/failures.ts'

function answer(
  status: number,
  body: unknown,
  contentType = 'application/json',
  retryAfter: string | null = null,
) {
  const text = body === null ? null : typeof body === 'string' ? body : JSON.stringify(body)
  return { status, contentType, retryAfter, body: text }
}

const unavailable = { kind: 'transient', delivered: 'unknown', cause: 'unavailable' }
const timeout = { kind: 'transient', delivered: 'unknown', cause: 'timeout' }
const protocol = { kind: 'protocol', delivered: 'unknown' }

t.test('success needs a 2xx, JSON and no code against it', async t => {
  for (const body of [
    { code: 0, data: {} },
    { code: '0', data: {} },
    { success: true, data: {} },
    { token: 'x' },
    { taskId: 'r', status: 'failed', error: 'out of memory' },
    { success: true, data: { status: 'failed', error: 'boom' } },
    { code: 0, message: 'invalid token' },
  ]) {
    t.equal(classify(answer(200, body)).kind, 'ok', JSON.stringify(body))
  }
  t.same(classify(answer(201, { code: 0 }, 'application/vnd.api+json; charset=utf-8')).kind, 'ok')
})

t.test('what nobody can read is a protocol failure', async t => {
  t.same(classify(answer(200, '<html></html>', 'text/html')), protocol)
  t.same(
    classify(answer(200, { code: 0 }, 'text/html; charset=utf-8')),
    protocol,
    'JSON that calls itself HTML',
  )
  t.same(classify(answer(200, { code: 0 }, '')), protocol, 'no content type')
  t.same(classify(answer(200, { code: 0 }, 'application/jsonx')), protocol)
  t.same(classify(answer(200, '{"code":0')), protocol)
  t.same(classify(answer(200, '[]')), protocol)
  t.same(classify(answer(200, null)), protocol)
  t.same(classify(answer(302, null, '')), protocol)
  t.same(classify(answer(304, null, '')), protocol)
})

t.test('each code of the table, under HTTP 200 and under an error status', async t => {
  const table: [number, object][] = [
    [1001, { kind: 'auth' }],
    [1010, { kind: 'auth' }],
    [1011, { kind: 'auth' }],
    [1002, { kind: 'session' }],
    [2001, { kind: 'refused', code: 'credits_exhausted' }],
    [4001, { kind: 'refused', code: 'unsupported_media' }],
    [4002, { kind: 'refused', code: 'file_too_large' }],
    [402, { kind: 'refused', code: 'upgrade_required' }],
    [429, { kind: 'rate_limited', retryAfterMs: null }],
    [500, unavailable],
  ]
  for (const [code, failure] of table) {
    t.same(classify(answer(200, { code, message: 'no' })), failure, `200 with ${code}`)
    t.same(classify(answer(400, { code, message: 'no' })), failure, `400 with ${code}`)
    t.same(classify(answer(500, { code: String(code), message: 'no' })), failure, `500 with "${code}"`)
  }
  t.same(
    classify(answer(402, { code: 2001 })),
    { kind: 'refused', code: 'credits_exhausted' },
    'the code decides',
  )
  t.same(classify(answer(200, { code: 7777 })), { kind: 'rejected', status: 200, code: 7777 })
  t.same(
    classify(answer(400, { error: { code: 1001, message: 'x' } })),
    { kind: 'auth' },
    'a code inside error',
  )
  t.equal(failureOfCode(7777, null), null)
})

t.test('statuses without a known code', async t => {
  for (const body of [{ detail: 'no' }, { message: 'no' }, { code: 0 }, 'plain', null]) {
    t.same(classify(answer(401, body)), { kind: 'auth' })
    t.same(classify(answer(402, body)), { kind: 'refused', code: 'upgrade_required' })
    t.same(classify(answer(403, body)), { kind: 'refused', code: 'upgrade_required' })
    t.same(classify(answer(408, body)), timeout)
    t.same(classify(answer(413, body)), { kind: 'refused', code: 'file_too_large' })
    t.same(classify(answer(415, body)), { kind: 'refused', code: 'unsupported_media' })
    t.same(classify(answer(500, body)), unavailable)
    t.same(classify(answer(503, body)), unavailable)
    t.same(classify(answer(504, body)), timeout)
    t.same(classify(answer(422, body)).kind, 'rejected')
  }
  t.same(classify(answer(429, null, '', '7')), { kind: 'rate_limited', retryAfterMs: 7000 })
})

t.test('HTML is judged by its status, and a firewall page is no matter of the plan', async t => {
  t.same(classify(answer(502, '<html>', 'text/html')), unavailable)
  t.same(classify(answer(429, '<html>', 'text/html', '3')), { kind: 'rate_limited', retryAfterMs: 3000 })
  t.same(classify(answer(403, '<html>', 'text/html')), { kind: 'rejected', status: 403, code: null })
  t.same(classify(answer(400, '<html>stack', 'text/html')), { kind: 'rejected', status: 400, code: null })
})

t.test('a dead token and a lost session are known by their words', async t => {
  const words = [
    'Invalid authentication token',
    'invalid token',
    'Token invalid or expired',
    'Token not found',
  ]
  words.push('Missing authentication token', 'Token has been revoked', 'The token has expired.')
  for (const word of words) {
    t.same(classify(answer(400, { detail: word })), { kind: 'auth' }, word)
    t.same(classify(answer(200, { success: false, error: word })), { kind: 'auth' }, word)
    t.same(classify(answer(404, { code: 9, message: word })), { kind: 'auth' }, word)
  }
  t.same(classify(answer(404, { detail: 'Session not found' })), { kind: 'session' })
  t.same(classify(answer(404, { error: 'Session not found: nosuch' })), { kind: 'session' })
  t.same(classify(answer(404, { detail: 'Not Found' })), { kind: 'rejected', status: 404, code: null })
  t.same(
    classify(answer(500, { detail: "Invalid token '<' in JSON" })),
    unavailable,
    'a crash is not a dead token',
  )
  t.same(classify(answer(422, { detail: [{ loc: ['body'], msg: 'x' }] })), {
    kind: 'rejected',
    status: 422,
    code: null,
  })
  t.same(classify(answer(200, { success: false, error: 'Lambda says no' })), {
    kind: 'rejected',
    status: 200,
    code: null,
  })
  t.same(classify(answer(200, { error: 'x' })), { kind: 'rejected', status: 200, code: null })
})

t.test('members of the prototype are no members', async t => {
  t.equal(classify(answer(200, '{"__proto__":{"code":1001},"data":{}}')).kind, 'ok')
})

t.test('render ids: used before, and unknown', async t => {
  const duplicate = { kind: 'duplicate' }
  t.same(classifyRender(answer(409, { error: 'x' }), 'submit'), duplicate)
  t.same(classifyRender(answer(400, { success: false, error: 'id already exists' }), 'submit'), duplicate)
  t.same(classifyRender(answer(200, { success: false, error: 'Duplicate render id' }), 'submit'), duplicate)
  t.same(classifyRender(answer(400, { error: 'no draft' }), 'submit').kind, 'rejected')
  t.same(classifyRender(answer(404, { detail: 'Not Found' }), 'read'), { kind: 'not_found' })
  t.same(classifyRender(answer(200, { success: false, error: 'Render does not exist' }), 'read'), {
    kind: 'not_found',
  })
  t.same(classifyRender(answer(404, { detail: 'Session not found' }), 'read'), { kind: 'session' })
  const page = answer(404, '<html>', 'text/html')
  t.same(classifyRender(page, 'read').kind, 'rejected', "a proxy's page does not know our ids")
  t.same(classifyRender(answer(503, { error: 'not found' }), 'read'), unavailable)
})

t.test('Retry-After: seconds, a date, or nothing to go by', async t => {
  const now = Date.parse('2026-05-01T10:00:00Z')
  t.equal(parseRetryAfter('30', now), 30_000)
  t.equal(parseRetryAfter(' 0 ', now), 0)
  t.equal(parseRetryAfter('Fri, 01 May 2026 10:01:00 GMT', now), 60_000)
  t.equal(parseRetryAfter('Fri, 01 May 2026 09:00:00 GMT', now), 0, 'past')
  t.equal(parseRetryAfter('99999999999', now), 7 * 24 * 3600 * 1000, 'bounded')
  for (const junk of ['', 'soon', '-5', '1.5', null]) t.equal(parseRetryAfter(junk, now), null, String(junk))
})
