import t from 'tap'
import type { Failure } from '../../src/services/upstream/failures.ts'
import { type Account, problemOf, registerLink, userProblem } from '../../src/services/user-states.ts'

const WEB = 'https://nemovideo.example'
const guest: Account = { kind: 'anonymous', upstreamUserId: 'anon_1' }
const member: Account = { kind: 'linked', upstreamUserId: 'user_1' }
const shared: Account = { kind: 'shared', upstreamUserId: null }

const of = (failure: Failure, account = guest, language = 'en') => problemOf(failure, account, language, WEB)
const refused = (code: 'credits_exhausted' | 'upgrade_required' | 'unsupported_media' | 'file_too_large') =>
  of({ kind: 'refused', code })

t.test('every failure has a code that clients know', async t => {
  const cases: [Failure, string, number][] = [
    [{ kind: 'auth' }, 'reauth_required', 409],
    [{ kind: 'session' }, 'upstream_unavailable', 502],
    [{ kind: 'refused', code: 'credits_exhausted' }, 'credits_exhausted', 402],
    [{ kind: 'refused', code: 'upgrade_required' }, 'upgrade_required', 403],
    [{ kind: 'refused', code: 'unsupported_media' }, 'unsupported_media', 415],
    [{ kind: 'refused', code: 'file_too_large' }, 'file_too_large', 413],
    [{ kind: 'rate_limited', retryAfterMs: null }, 'rate_limited', 429],
    [{ kind: 'transient', delivered: 'no', cause: 'unavailable' }, 'upstream_unavailable', 502],
    [{ kind: 'transient', delivered: 'unknown', cause: 'timeout' }, 'upstream_timeout', 504],
    [{ kind: 'protocol', delivered: 'unknown' }, 'upstream_unavailable', 502],
    [{ kind: 'rejected', status: 422, code: null }, 'upstream_unavailable', 502],
    [{ kind: 'not_found' }, 'upstream_unavailable', 502],
    [{ kind: 'aborted' }, 'upstream_unavailable', 502],
  ]
  for (const [failure, code, status] of cases) {
    const problem = of(failure)
    t.match(problem, {
      code,
      status,
      type: `urn:reelgate:problem:${code}`,
      userState: { code, message: /\w/ },
    })
    t.equal(problem.detail, problem.userState?.message, 'the same words in both places')
    t.notMatch(problem.detail, /\{|undefined|null/)
  }
})

t.test('out of credits: a guest registers and keeps the project, a member tops up', async t => {
  t.match(refused('credits_exhausted').userState, {
    message: /register/i,
    action: { kind: 'register', url: `${WEB}/register?bind=anon_1` },
  })
  const topUp = of({ kind: 'refused', code: 'credits_exhausted' }, member).userState
  t.match(topUp, { message: /top up/i, action: { kind: 'top_up' } })
  t.notMatch(topUp?.action?.url, 'bind')
})

t.test('a plan that does not allow it has nothing to do with credits', async t => {
  t.match(refused('upgrade_required').userState, { action: { kind: 'upgrade' } })
  t.notMatch(refused('upgrade_required').detail, /credit/i)
})

t.test('a dead token: the user’s own is linked again, the shared one is not theirs', async t => {
  t.match(of({ kind: 'auth' }, member).userState, { action: { kind: 'link_account' } })
  t.match(of({ kind: 'auth' }, shared), {
    code: 'upstream_unavailable',
    userState: { action: { kind: 'retry' } },
  })
})

t.test('a limit tells when to come back', async t => {
  const before = Date.now()
  const known = of({ kind: 'rate_limited', retryAfterMs: 5_000 })
  t.equal(known.retryAfterMs, 5_000)
  const at = Date.parse(known.userState?.action?.retryAt ?? '')
  t.ok(at >= before + 5_000 && at <= Date.now() + 5_000)
  const unknown = of({ kind: 'rate_limited', retryAfterMs: null })
  t.ok(Date.parse(unknown.userState?.action?.retryAt ?? '') > before, 'also when the backend did not say')
})

t.test('in the user’s language', async t => {
  for (const language of ['zh', 'zh-CN', 'zh-Hant-TW'])
    t.match(of({ kind: 'auth' }, guest, language).userState?.message, /\p{Script=Han}/u)
  for (const language of ['en', 'en-GB', 'fr', 'zhuang'])
    t.notMatch(of({ kind: 'auth' }, guest, language).userState?.message, /\p{Script=Han}/u)
})

t.test('a problem that is no user’s concern has no words for one', async t => {
  t.same(userProblem('project_busy', guest, 'en', WEB), {
    type: 'urn:reelgate:problem:project_busy',
    title: 'The project is working on another message',
    status: 409,
    detail: 'The project is working on another message.',
    code: 'project_busy',
  })
  t.notOk('action' in (userProblem('nothing_to_export', guest, 'en', WEB).userState ?? {}))
})

t.test('a link for registration', async t => {
  t.equal(registerLink(WEB, null), `${WEB}/register`)
  t.equal(registerLink(WEB, 'a&b=c#d'), `${WEB}/register?bind=a%26b%3Dc%23d`)
})
