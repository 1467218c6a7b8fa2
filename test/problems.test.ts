import Fastify from 'fastify'
import t from 'tap'
import {
  asProblem,
  handleError,
  handleNotFound,
  isDatabaseDown,
  notFound,
  PROBLEMS,
  ProblemError,
  toProblem,
} from '../src/problems.ts'

const coded = (code: string, message = 'x') => Object.assign(new Error(message), { code })

t.test('the codes and their statuses, as clients know them', async t => {
  t.same(Object.fromEntries(Object.entries(PROBLEMS).map(([code, { status }]) => [code, status])), {
    invalid_request: 400,
    unauthenticated: 401,
    csrf_required: 403,
    not_found: 404,
    method_not_allowed: 405,
    payload_too_large: 413,
    internal: 500,
    project_busy: 409,
    queue_full: 409,
    nothing_to_export: 409,
    not_ready: 409,
    not_failed: 409,
    upload_interrupted: 409,
    idempotency_in_progress: 409,
    idempotency_mismatch: 422,
    url_not_allowed: 422,
    content_filtered: 422,
    file_too_large: 413,
    storage_full: 507,
    request_timeout: 408,
    upload_gone: 410,
    tus_version: 412,
    unsupported_media: 415,
    credits_exhausted: 402,
    upgrade_required: 403,
    reauth_required: 409,
    rate_limited: 429,
    upstream_unavailable: 502,
    upstream_timeout: 504,
    outcome_unknown: 502,
    render_lost: 502,
    overloaded: 503,
  })
})

t.test('a problem of ours is told as it is; its cause is not', async t => {
  const userState = { code: 'rate_limited', message: 'Wait.' } as const
  const error = new ProblemError('rate_limited', 'Slow down.', {
    retryAfterMs: 1500,
    userState,
    cause: new Error('canary'),
  })
  t.same(asProblem(error), {
    type: 'urn:reelgate:problem:rate_limited',
    title: 'Too many requests',
    status: 429,
    detail: 'Slow down.',
    code: 'rate_limited',
    retryAfterMs: 1500,
    userState,
  })
  t.equal((error.cause as Error).message, 'canary')
  t.notOk('retryAfterMs' in toProblem('not_found'), 'what there is not is not there')
  t.match(asProblem(notFound()), { code: 'not_found', status: 404 })
})

t.test('what was thrown elsewhere', async t => {
  const code = (error: unknown) => asProblem(error).code
  t.equal(code(new Error('canary')), 'internal')
  t.notMatch(JSON.stringify(asProblem(new Error('canary'))), 'canary')
  for (const thrown of ['text', undefined, null, 42, {}]) t.equal(code(thrown), 'internal', String(thrown))
  t.equal(code(Object.assign(new Error('x'), { validation: [] })), 'invalid_request')
  t.equal(code(Object.assign(new Error('x'), { statusCode: 400 })), 'invalid_request')
  t.equal(code(Object.assign(new Error('x'), { statusCode: 413 })), 'payload_too_large')
  t.equal(code(Object.assign(new Error('x'), { statusCode: 429 })), 'rate_limited')
  t.equal(code(Object.assign(new Error('x'), { statusCode: 503 })), 'internal')
})

t.test('a database that cannot be used is overload, not a fault', async t => {
  const wrapped = new Error('Failed query: select 1', { cause: coded('57P01') })
  const down = [
    coded('ECONNREFUSED'),
    coded('57P03'),
    coded('53300'),
    new Error('Connection terminated unexpectedly'),
    new Error('timeout exceeded when trying to connect'),
    new Error('Query read timeout'),
    wrapped,
    new Error('outer', { cause: wrapped }),
  ]
  for (const error of down) {
    t.ok(isDatabaseDown(error), error.message)
    t.match(asProblem(error), { code: 'overloaded', status: 503, retryAfterMs: Number })
  }
  for (const error of [coded('23505'), new Error('x'), coded('ENOENT'), undefined, null, 'ECONNREFUSED'])
    t.notOk(isDatabaseDown(error))
})

t.test('a character that the database cannot keep is the request’s fault', async t => {
  const error = new Error('Failed query: canary', { cause: coded('22021', 'invalid byte sequence: 0x00') })
  t.match(asProblem(error), { code: 'invalid_request', status: 400 })
  t.notMatch(JSON.stringify(asProblem(error)), 'canary')
  const circular = new Error('x')
  circular.cause = circular
  t.equal(asProblem(circular).code, 'internal')
})

t.test('on the wire', async t => {
  const app = Fastify({ genReqId: () => 'request-1' })
  app.setErrorHandler(handleError)
  app.setNotFoundHandler(handleNotFound)
  app.get('/limited', () => {
    throw new ProblemError('rate_limited', undefined, { retryAfterMs: 1001 })
  })
  app.get('/broken', () => {
    throw new Error('canary')
  })
  app.post('/body', { schema: { body: { type: 'object', required: ['name'] } } }, () => ({}))
  t.teardown(() => app.close())

  const limited = await app.inject('/limited')
  t.equal(limited.statusCode, 429)
  t.equal(limited.headers['retry-after'], '2', 'whole seconds, never too early')
  t.match(limited.headers['content-type'], /^application\/problem\+json/)
  t.match(limited.json(), { code: 'rate_limited', status: 429, requestId: 'request-1', retryAfterMs: 1001 })

  const broken = await app.inject('/broken')
  t.match(broken.json(), { code: 'internal', status: 500, requestId: 'request-1' })
  t.notMatch(broken.body, 'canary')
  t.match((await app.inject('/nowhere')).json(), { code: 'not_found', status: 404 })
  t.match((await app.inject({ method: 'POST', url: '/body', payload: {} })).json(), {
    code: 'invalid_request',
    detail: /name/,
  })
  const garbage = { method: 'POST', url: '/body', headers: { 'content-type': 'application/json' } } as const
  t.match((await app.inject({ ...garbage, payload: '{' })).json(), { code: 'invalid_request', status: 400 })
})
