import t from 'tap'
import type { ProblemCode, UserState } from '../../../src/problems.ts'
import { classify, type Failure } from '../../../src/services/upstream/failures.ts'
import { type Account, problemOf } from '../../../src/services/user-states.ts'

const GUEST: Account = { kind: 'anonymous', upstreamUserId: 'anon_1' }
const MEMBER: Account = { kind: 'linked', upstreamUserId: null }
const SHARED: Account = { kind: 'shared', upstreamUserId: null }
const WEB = 'https://nemovideo.example'
/** What the upstream says, which no client may read. */
const SECRET = 'internal upstream words'

type Form = [name: string, status: number, contentType: string, body: string | null]
const JSON_TYPE = 'application/json'

/** A code of the body, under every status and spelling that it may come in. */
const codeForms = (code: number): Form[] => [
  ['HTTP 200 and a code', 200, JSON_TYPE, JSON.stringify({ code, message: SECRET, data: null })],
  ['HTTP 400 and a code', 400, JSON_TYPE, JSON.stringify({ code, message: SECRET })],
  ['HTTP 500 and a code', 500, JSON_TYPE, JSON.stringify({ code, message: SECRET })],
  ['a code as a string', 200, JSON_TYPE, JSON.stringify({ code: String(code), message: SECRET })],
  ['a code inside error', 400, JSON_TYPE, JSON.stringify({ error: { code, message: SECRET } })],
  ['success: false', 200, JSON_TYPE, JSON.stringify({ success: false, code, error: SECRET })],
]

/** A status, whatever its body is. */
const statusForms = (status: number): Form[] => [
  [`HTTP ${status} with a code of its own`, status, JSON_TYPE, JSON.stringify({ code: 77, message: SECRET })],
  [`HTTP ${status} with detail`, status, JSON_TYPE, JSON.stringify({ detail: SECRET })],
  [`HTTP ${status} with a list of details`, status, JSON_TYPE, JSON.stringify({ detail: [{ msg: SECRET }] })],
  [`HTTP ${status} as an HTML page`, status, 'text/html; charset=utf-8', `<html><pre>${SECRET}</pre></html>`],
  [`HTTP ${status} without a body`, status, '', null],
  [`HTTP ${status} as text`, status, 'text/plain', SECRET],
  [`HTTP ${status} with the wrong type`, status, 'application/octet-stream', JSON.stringify({ code: 77 })],
]

const saidForms = (words: string): Form[] => [
  ['message', 400, JSON_TYPE, JSON.stringify({ code: 77, message: words })],
  ['detail', 404, JSON_TYPE, JSON.stringify({ detail: words })],
  ['error', 200, JSON_TYPE, JSON.stringify({ success: false, error: words })],
]

interface Row {
  row: string
  forms: Form[]
  account?: Account
  failure?: Partial<Failure>
  problem: ProblemCode
  status: number
  action?: Partial<UserState['action'] & object>
}

const pricing = `${WEB}/pricing`
const ROWS: Row[] = [
  ...[1001, 1010, 1011].map(code => ({
    row: `${code}: the token is dead`,
    forms: codeForms(code),
    failure: { kind: 'auth' as const },
    problem: 'reauth_required' as const,
    status: 409,
    action: { kind: 'link_account' as const },
  })),
  {
    row: 'HTTP 401: the token is dead',
    forms: statusForms(401),
    failure: { kind: 'auth' },
    problem: 'reauth_required',
    status: 409,
  },
  {
    row: '1001 of the shared account: nobody’s to renew',
    forms: codeForms(1001),
    account: SHARED,
    problem: 'upstream_unavailable',
    status: 502,
    action: { kind: 'retry' },
  },
  ...[
    'Invalid authentication token',
    'invalid token',
    'Token is invalid or expired',
    'missing authentication token',
    'token not found',
    'Token has been revoked.',
    'the token has expired',
  ].map(words => ({
    row: `“${words}”: the token is dead`,
    forms: saidForms(words),
    failure: { kind: 'auth' as const },
    problem: 'reauth_required' as const,
    status: 409,
  })),
  {
    row: '1002: the session is gone',
    forms: [...codeForms(1002), ...saidForms('Session not found: 42')],
    failure: { kind: 'session' },
    problem: 'upstream_unavailable',
    status: 502,
  },
  {
    row: '2001: a guest has no credits left',
    forms: codeForms(2001),
    problem: 'credits_exhausted',
    status: 402,
    action: { kind: 'register', url: `${WEB}/register?bind=anon_1` },
  },
  {
    row: '2001: an account has no credits left',
    forms: codeForms(2001),
    account: MEMBER,
    problem: 'credits_exhausted',
    status: 402,
    action: { kind: 'top_up', url: pricing },
  },
  { row: '4001: the kind of file', forms: codeForms(4001), problem: 'unsupported_media', status: 415 },
  { row: '4002: the size of a file', forms: codeForms(4002), problem: 'file_too_large', status: 413 },
  {
    row: 'HTTP 402: the plan, not the credits',
    forms: [...statusForms(402), ...codeForms(402)],
    problem: 'upgrade_required',
    status: 403,
    action: { kind: 'upgrade', url: pricing },
  },
  {
    row: 'HTTP 403: plan or scope',
    forms: [...statusForms(403).filter(([name]) => !name.includes('HTML')), ...codeForms(403)],
    problem: 'upgrade_required',
    status: 403,
    action: { kind: 'upgrade' },
  },
  {
    row: 'HTTP 403 as a page: a firewall, which knows no plan',
    forms: statusForms(403).filter(([name]) => name.includes('HTML')),
    problem: 'upstream_unavailable',
    status: 502,
  },
  {
    row: 'HTTP 429: too many requests',
    forms: [...statusForms(429), ...codeForms(429)],
    failure: { kind: 'rate_limited', retryAfterMs: 7_000 },
    problem: 'rate_limited',
    status: 429,
    action: { kind: 'wait' },
  },
  ...[408, 504].map(status => ({
    row: `HTTP ${status}: passing, and perhaps delivered`,
    forms: statusForms(status),
    failure: { kind: 'transient' as const, delivered: 'unknown' as const },
    problem: 'upstream_timeout' as const,
    status: 504,
    action: { kind: 'retry' as const },
  })),
  ...[500, 502, 503].map(status => ({
    row: `HTTP ${status}: passing, and perhaps delivered`,
    forms: statusForms(status),
    failure: { kind: 'transient' as const, delivered: 'unknown' as const },
    problem: 'upstream_unavailable' as const,
    status: 502,
    action: { kind: 'retry' as const },
  })),
  {
    row: 'HTTP 400 and 422: a request that is not understood',
    forms: [...statusForms(400), ...statusForms(422)],
    failure: { kind: 'rejected' },
    problem: 'upstream_unavailable',
    status: 502,
  },
  {
    row: 'a success that nobody can read',
    forms: [
      ['an HTML page', 200, 'text/html', `<html>${SECRET}</html>`],
      ['nothing', 200, JSON_TYPE, null],
      ['no JSON', 200, JSON_TYPE, `{"code":0,`],
      ['a list', 200, JSON_TYPE, '[]'],
      ['another type', 200, 'text/plain', '{"code":0,"data":{}}'],
    ],
    failure: { kind: 'protocol', delivered: 'unknown' },
    problem: 'upstream_unavailable',
    status: 502,
  },
]

for (const { row, forms, account = GUEST, failure, problem, status, action } of ROWS)
  t.test(`upstream-contract §5, ${row}`, async t => {
    for (const [form, httpStatus, contentType, body] of forms) {
      const outcome = classify({ status: httpStatus, contentType, retryAfter: '7', body })
      if (outcome.kind === 'ok') {
        t.fail(`${form} counts as a success`)
        continue
      }
      if (failure) t.match(outcome, failure, form)
      for (const language of ['en', 'zh-CN']) {
        const told = problemOf(outcome, account, language, WEB)
        t.match(told, { code: problem, status }, form)
        if (action) t.match(told.userState?.action, action, form)
        const chinese = /\p{Script=Han}/u.test(told.userState?.message ?? '')
        t.equal(chinese, language === 'zh-CN', `${form}: in the user’s language`)
        t.notMatch(JSON.stringify(told), SECRET, 'the upstream’s words are not shown')
      }
    }
  })

t.test('upstream-contract §5, 0: success', async t => {
  const body = '{"code":0,"data":{"available":1}}'
  t.match(classify({ status: 200, contentType: JSON_TYPE, retryAfter: null, body }), { kind: 'ok' })
})
