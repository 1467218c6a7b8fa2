import t from 'tap'
import { asProblem } from '../../src/problems.ts'
import type { EventLog } from '../../src/services/events/log.ts'
import type { Outcome } from '../../src/services/upstream/failures.ts'
import { problemOf, setStage } from './accounts/stage.ts'

/** What the log tells of a project: names and values. */
async function told(log: EventLog, projectId: string, after?: string) {
  const page = await log.page(projectId, after, 200)
  if (page === 'not a cursor') throw new Error(page)
  return page.entries.map(entry => {
    const { name, value } = JSON.parse(entry.chunk)
    return { name, value }
  })
}

const sessionIn = async (_: unknown, id: string): Promise<Outcome<string>> => ({ kind: 'ok', value: id })

t.test('a project, from its making to its end', async t => {
  const { projects, log, alice } = await setStage(t)
  const project = await projects.create(alice.userId, { language: 'zh-CN' })
  t.match(project, {
    id: /^[0-9a-f-]{36}$/,
    name: 'Untitled',
    language: 'zh-CN',
    summary: null,
    exportable: false,
    revision: 0,
    createdAt: /^\d{4}-.*Z$/,
    lastActivityAt: String,
    cursor: String,
  })
  t.same(await projects.get(alice.userId, project.id), project)
  const renamed = await projects.rename(alice.userId, project.id, 'Holiday')
  t.equal(renamed.name, 'Holiday')
  const news = await told(log, project.id, project.cursor)
  t.match(news, [{ name: 'project.updated', value: { id: project.id, name: 'Holiday' } }])
  t.equal(news.length, 1, 'the snapshot’s cursor continues right after it')
  await projects.remove(alice.userId, project.id)
  t.match(await problemOf(projects.get(alice.userId, project.id)), { code: 'not_found' })
  t.same(await projects.list(alice.userId, undefined, 10), { items: [], next: null })
})

t.test('of many who ask at once, each hears of their own project', async t => {
  const { projects, alice, createCaller } = await setStage(t)
  const bob = await createCaller()
  const [hers, removed, his] = await Promise.all([
    projects.create(alice.userId, { language: 'en' }),
    projects.create(alice.userId, { language: 'en' }),
    projects.create(bob.userId, { language: 'en' }),
  ])
  await projects.remove(alice.userId, removed.id)
  const asked = [
    [alice, hers.id, true],
    [bob, hers.id, false],
    [bob, his.id, true],
    [alice, his.id, false],
    [alice, removed.id, false],
    [alice, crypto.randomUUID(), false],
    [alice, hers.id, true],
  ] as const
  const answers = await Promise.all(
    asked.map(([who, id]) =>
      projects.checkOwn(who.userId, id).then(
        () => true,
        error => asProblem(error).code,
      ),
    ),
  )
  t.same(
    answers,
    asked.map(([, , own]) => own || 'not_found'),
  )
})

t.test('somebody else’s project is no other than none', async t => {
  const { projects, alice, createCaller, heard, log } = await setStage(t)
  const bob = await createCaller()
  const { id } = await projects.create(alice.userId, { name: 'Hers', language: 'en' })
  const nothing = await problemOf(projects.get(bob.userId, crypto.randomUUID()))
  for (const attempt of [
    () => projects.get(bob.userId, id),
    () => projects.own(bob.userId, id),
    () => projects.checkOwn(bob.userId, id),
    () => projects.rename(bob.userId, id, 'His'),
    () => projects.remove(bob.userId, id),
    () => projects.claimLink(bob.userId, id, 'web'),
  ])
    t.same(await problemOf(attempt()), nothing)
  t.same((await projects.list(bob.userId, undefined, 10)).items, [])
  t.equal((await projects.own(alice.userId, id)).name, 'Hers')
  t.same(await told(log, id), [])
  t.equal(heard('session').length, 0)
})

t.test('the list, page by page, newest first', async t => {
  const { projects, alice } = await setStage(t)
  const made = []
  for (let i = 0; i < 5; i++) {
    made.unshift((await projects.create(alice.userId, { name: `P${i}`, language: 'en' })).id)
    // Ids made in the same millisecond have no order.
    await new Promise(resolve => setTimeout(resolve, 2))
  }
  const seen: string[] = []
  let after: string | undefined
  const sizes = []
  do {
    const page = await projects.list(alice.userId, after, 2)
    seen.push(...page.items.map(({ id }) => id))
    sizes.push(page.items.length)
    after = page.next ?? undefined
  } while (after)
  t.same(seen, made)
  t.same(sizes, [2, 2, 1])
  t.equal((await projects.list(alice.userId, undefined, 5)).next, null, 'a full page may be the last')
})

t.test('a name that cannot be kept is refused', async t => {
  const { projects, alice } = await setStage(t)
  const error = await projects.create(alice.userId, { name: 'a\0b', language: 'en' }).catch(error => error)
  t.equal(asProblem(error).code, 'invalid_request')
  t.equal(
    (await projects.create(alice.userId, { name: '🎬 a\ud800', language: 'en' })).name.slice(0, 4),
    '🎬 a',
  )
})

t.test('a session is made when it is first needed: one for all calls on two instances', async t => {
  const { projects, createInstance, alice, heard, log } = await setStage(t)
  const other = (await createInstance()).projects
  const project = await projects.create(alice.userId, { language: 'en' })
  t.equal(heard('session').length, 0)
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, (_, i) => (i % 2 ? projects : other).call(project, alice, sessionIn)),
  )
  const ids = new Set(outcomes.map(outcome => outcome.kind === 'ok' && outcome.value))
  t.equal(ids.size, 1, 'all use the same')
  t.ok(heard('session').length <= 2, 'no instance asks twice')
  t.equal(heard('mint').length, 1)
  const { sessionId, sessionGeneration } = await projects.own(alice.userId, project.id)
  t.ok(ids.has(sessionId!))
  t.match(sessionId, /^\d{19}$/, 'with every digit')
  t.equal(sessionGeneration, 1)
  t.same(await told(log, project.id), [], 'the first session replaces nothing')

  const before = heard('session').length
  t.match(await (await createInstance()).projects.call(project, alice, sessionIn), { value: sessionId })
  t.equal(heard('session').length, before)
})

t.test('each project has a session of its own, in its language', async t => {
  const { projects, alice, sandbox } = await setStage(t)
  const ids = []
  for (const [language, wanted] of [
    ['en', 'en'],
    ['en-GB', 'en'],
    ['zh', 'zh-CN'],
    ['zh-Hant-TW', 'zh-CN'],
    ['ja', 'ja'],
  ] as const) {
    const outcome = await projects.call(await projects.create(alice.userId, { language }), alice, sessionIn)
    if (outcome.kind !== 'ok') throw new Error(outcome.kind)
    t.equal(sandbox.state.session(outcome.value)?.language, wanted, language)
    ids.push(outcome.value)
  }
  t.equal(new Set(ids).size, 5)
})

t.test(
  'a session that is gone is replaced once, the log tells it, and each call is made once more',
  async t => {
    const { projects, createInstance, alice, sandbox, heard, log, upstream, timelines } = await setStage(t)
    const other = await createInstance()
    const project = await projects.create(alice.userId, { language: 'en' })
    const first = await projects.call(project, alice, sessionIn)
    if (first.kind !== 'ok') throw new Error(first.kind)
    const urls = ['https://media.example/beach.mp4']
    await projects.call(project, alice, (credential, sessionId) =>
      upstream.uploadUrls(credential, { sessionId, urls }),
    )
    sandbox.state.setDraft(first.value, '{"t":[{"tt":0,"sg":[{"d":5000,"m":{"title":"beach"}}]}]}')
    await timelines.view(alice.userId, project.id, 'web')
    const known = await projects.get(alice.userId, project.id)
    t.match(known, { exportable: true, revision: 1, summary: /beach/ })

    sandbox.faults.dropSession('all')
    const [sessions, states] = [heard('session').length, heard('state').length]
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        (i % 2 ? projects : other.projects).call(project, alice, (credential, sessionId) =>
          upstream.state(credential, { sessionId }),
        ),
      ),
    )
    t.ok(outcomes.every(({ kind }) => kind === 'ok'))
    t.ok(heard('session').length - sessions <= 2)
    t.ok(heard('state').length - states <= 40)
    t.equal(heard('state').filter(({ answer }) => answer === 'ok').length, 1 + 20, 'each call came through')

    const now = await projects.get(alice.userId, project.id)
    t.match(now, { exportable: false, revision: 2, summary: null })
    const { sessionId, sessionGeneration } = await projects.own(alice.userId, project.id)
    t.not(sessionId, first.value)
    t.equal(sessionGeneration, 2)
    t.match(await told(log, project.id, known.cursor), [
      {
        name: 'project.session_replaced',
        value: {
          reason: 'expired',
          note: /uploads may need to be added again/,
          media: [{ name: 'beach.mp4' }],
        },
      },
      { name: 'project.updated', value: { revision: 2, exportable: false } },
    ])
    t.equal((await told(log, project.id, known.cursor)).length, 2, 'once')
    t.same((await timelines.view(alice.userId, project.id, 'web')).tracks, [])
  },
)

t.test('a new session that is gone too is not replaced again', async t => {
  const { projects, alice, heard } = await setStage(t)
  const project = await projects.create(alice.userId, { language: 'en' })
  let calls = 0
  const outcome = await projects.call(project, alice, async () => {
    calls += 1
    return { kind: 'session' }
  })
  t.same(outcome, { kind: 'session' })
  t.equal(calls, 2)
  t.equal(heard('session').length, 2)
})

t.test('a session that could not be made leaves nothing behind', async t => {
  const { projects, alice, sandbox, heard, log } = await setStage(t)
  const project = await projects.create(alice.userId, { language: 'en' })
  let calls = 0
  const send = async (): Promise<Outcome<null>> => {
    calls += 1
    return { kind: 'ok', value: null }
  }
  for (const fault of [
    { answer: 'status', status: 503 },
    { answer: 'code', code: 2001 },
    { answer: 'garbage' },
    { answer: 'body', body: '{"code":0,"data":{"task_id":"t"}}', contentType: 'application/json' },
  ] as const) {
    sandbox.faults.add({ on: 'session', ...fault })
    t.not((await projects.call(project, alice, send)).kind, 'ok', fault.answer)
  }
  t.equal(calls, 0)
  t.equal((await projects.own(alice.userId, project.id)).sessionId, null)
  t.equal(heard('session').length, 4, 'asked once each time')
  t.match(await projects.call(project, alice, send), { kind: 'ok' })
  t.same(await told(log, project.id), [])
})

t.test('a link to the project on the service’s own site, also when its session is gone', async t => {
  const { projects, alice, sandbox } = await setStage(t)
  const project = await projects.create(alice.userId, { language: 'en' })
  const link = await projects.claimLink(alice.userId, project.id, 'ios')
  t.match(link.url, /^https:\/\/nemovideo\.example\/workspace\/claim\?ct=clm_\w+$/)
  const days = (Date.parse(link.expiresAt) - Date.now()) / 86_400_000
  t.ok(days > 6.9 && days <= 7)
  sandbox.faults.dropSession('all')
  t.match((await projects.claimLink(alice.userId, project.id, 'web')).url, /clm_/)
  sandbox.faults.add({ on: 'claim', answer: 'status', status: 403 })
  t.match(await problemOf(projects.claimLink(alice.userId, project.id, 'web')), {
    code: 'upgrade_required',
    userState: { message: String },
  })
})
