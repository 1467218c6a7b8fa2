import { randomUUIDv7 } from 'node:crypto'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { updateRun } from '../../../src/db/runs.ts'
import { DRAFT, EMPTY, problemOf, setStage, WITH_MUSIC } from './stage.ts'

t.test('an export is followed to its film, and the log tells each step once', async t => {
  const { renders, alice, project, ended, told, heard, errors } = await setStage(t)
  const created = await renders.create(alice, project.id)
  t.match(created, { state: 'queued', progress: 0, attempts: 0, stale: false, revision: 1 })

  const render = await ended(created.id)
  t.match(render, {
    state: 'completed',
    progress: 100,
    attempts: 1,
    file: { href: `/v1/renders/${created.id}/file` },
  })
  t.ok((render.file?.bytes ?? 1) > 0)

  const story = await told()
  t.same(
    story.map(one => one.state).filter((state, i, all) => state !== all[i - 1]),
    ['queued', 'submitting', 'rendering', 'completed'],
  )
  t.equal(story.filter(one => one.state === 'completed').length, 1)
  t.same(story.at(-1), render, 'the event shows what the GET shows')
  const progress = story.map(one => one.progress)
  t.same(
    progress,
    progress.toSorted((a, b) => a - b),
  )
  t.match(heard('render'), [{ accepted: true, draftMatches: true, platform: 'web' }])
  t.same(errors, [])
})

t.test('nothing to export', async t => {
  const { renders, projects, alice, createProject, sandbox } = await setStage(t)
  const before = sandbox.journal().length
  const fresh = await projects.create(alice.userId, { language: 'zh-CN' })
  t.match(await problemOf(renders.create(alice, fresh.id)), { code: 'nothing_to_export', detail: /[一-龥]/ })
  t.equal(sandbox.journal().length, before, 'a project without a message costs no call')

  const empty = await createProject(alice, EMPTY)
  t.match(await problemOf(renders.create(alice, empty.id)), { code: 'nothing_to_export', status: 409 })
  t.same((await renders.list(alice.userId, { limit: 10 })).items, [])
})

t.test('an export behind a message exports what the message made', async t => {
  const { renders, alice, project, sandbox, insertRun, db, ended, execute, heard } = await setStage(t)
  const run = await insertRun('running')
  const { id, state } = await renders.create(alice, project.id)
  t.equal(state, 'queued')
  await renders.advanceDue()
  t.match(await renders.get(alice.userId, id), { state: 'queued', stale: false })
  t.same(heard('render'), [])

  sandbox.state.setDraft(project.sessionId, WITH_MUSIC)
  await updateRun(db, run.id, { state: 'completed' })
  renders.wake(project.id)
  t.match(await ended(id), { state: 'completed', stale: false })
  const { rows } = await execute(sql`select draft from renders where id = ${id}`)
  t.same(rows, [{ draft: WITH_MUSIC }])
  t.match(heard('render'), [{ draftMatches: true }])
})

t.test('a later message does not hold an export back', async t => {
  const { renders, alice, project, insertRun, ended, db } = await setStage(t)
  const earlier = await insertRun('running')
  const { id } = await renders.create(alice, project.id)
  await insertRun('queued')
  await updateRun(db, earlier.id, { state: 'completed' })
  t.match(await ended(id), { state: 'completed' })
})

t.test('an export behind a message that leaves nothing fails with words', async t => {
  const { renders, alice, project, sandbox, insertRun, db, ended } = await setStage(t)
  const run = await insertRun('running')
  const { id } = await renders.create(alice, project.id)
  sandbox.state.setDraft(project.sessionId, EMPTY)
  await updateRun(db, run.id, { state: 'completed' })
  t.match(await ended(id), { state: 'failed', attempts: 0, problem: { code: 'nothing_to_export' } })

  sandbox.state.setDraft(project.sessionId, DRAFT)
  t.match(await renders.retry(alice, id), { state: 'queued' })
  t.match(await ended(id), { state: 'completed', attempts: 1 })
})

t.test('an export is accepted while the upstream cannot be asked for the timeline', async t => {
  const { renders, alice, project, sandbox, ended } = await setStage(t)
  sandbox.faults.add({ on: 'state', answer: 'html', status: 503, times: 3 })
  const { id } = await renders.create(alice, project.id)
  t.match(await ended(id), { state: 'completed' })
})

t.test('one at a time in a project, in order', async t => {
  const { renders, alice, project, ended, told, heard } = await setStage(t)
  const ids: string[] = []
  for (let i = 0; i < 3; i++) ids.push((await renders.create(alice, project.id)).id)
  for (const id of ids.toReversed()) t.match(await ended(id), { state: 'completed' })

  const atWork = new Set<string>()
  const begun: string[] = []
  for (const { id, state } of await told()) {
    if (state === 'submitting') begun.push(id)
    if (state === 'submitting' || state === 'rendering') atWork.add(id)
    else atWork.delete(id)
    t.ok(atWork.size <= 1)
  }
  t.same(begun, ids)
  t.equal(heard('render').length, 3)
})

t.test('stale says that the timeline changed after the export', async t => {
  const { renders, timelines, alice, project, sandbox, ended } = await setStage(t)
  const { id } = await renders.create(alice, project.id)
  t.match(await ended(id), { stale: false })
  sandbox.state.setDraft(project.sessionId, WITH_MUSIC)
  await timelines.view(alice.userId, project.id, 'web')
  t.match(await renders.get(alice.userId, id), { stale: true, revision: 1 })
})

t.test('cancel', async t => {
  const { renders, alice, project, ended, until, heard, sandbox, told } = await setStage(t, {
    sandbox: { speed: { renderMs: 5_000 } },
  })
  const first = await renders.create(alice, project.id)
  const queued = await renders.create(alice, project.id)
  t.match(await renders.cancel(alice.userId, queued.id), { state: 'cancelled' })
  t.match(await renders.cancel(alice.userId, queued.id), { state: 'cancelled' }, 'again: as it is')

  await until(first.id, render => render.state === 'rendering')
  t.match(await renders.cancel(alice.userId, first.id), { state: 'rendering' })
  t.match(await ended(first.id), { state: 'cancelled', attempts: 1 })
  t.match(heard('cancel'), [{ accepted: true }])
  t.equal((await told()).filter(one => one.state === 'cancelled').length, 2)

  sandbox.faults.add({ on: 'cancel', answer: 'status', status: 404, times: 99 })
  const late = await renders.create(alice, project.id)
  await until(late.id, render => render.state === 'rendering')
  await renders.cancel(alice.userId, late.id)
  await renders.advanceDue()
  // The upstream went on: its film is there.
  for (const job of sandbox.state.world.renders) job.workMs = 1
  t.match(await ended(late.id), { state: 'completed' })
})

t.test('retry gives a failed render one attempt more, with its draft', async t => {
  const { renders, alice, project, ended, sandbox, heard } = await setStage(t)
  sandbox.faults.add({ on: 'render', answer: 'fail', times: 2 })
  const { id } = await renders.create(alice, project.id)
  t.match(await ended(id), { state: 'failed', attempts: 2 })
  sandbox.state.setDraft(project.sessionId, WITH_MUSIC)

  const retried = await renders.retry(alice, id)
  t.match(retried, { id, state: 'queued', progress: 0 })
  t.notOk(retried.problem)
  t.match(await ended(id), { state: 'completed', attempts: 3, revision: 1 })
  t.match(await problemOf(renders.retry(alice, id)), { code: 'not_failed' })
  t.equal(new Set(heard('render').map(entry => entry.renderId)).size, 3)

  sandbox.faults.add({ on: 'render', answer: 'fail', times: 9 })
  const other = await renders.create(alice, project.id)
  t.match(await ended(other.id), { state: 'failed', attempts: 2 })
  await renders.retry(alice, other.id)
  t.match(await ended(other.id), { state: 'failed', attempts: 3 })
})

t.test('what is another’s is as absent as what does not exist', async t => {
  const { renders, alice, project, createUser } = await setStage(t)
  const { id } = await renders.create(alice, project.id)
  const bob = await createUser()
  const request = { range: null, ifRange: null, ifNoneMatch: null, signal: new AbortController().signal }
  const ways = [
    (id: string) => renders.get(bob.userId, id),
    (id: string) => renders.cancel(bob.userId, id),
    (id: string) => renders.retry(bob, id),
    (id: string) => renders.file(bob.userId, id, request),
  ]
  for (const way of ways) {
    const [foreign, missing] = await Promise.allSettled([way(id), way(randomUUIDv7())])
    t.match(foreign, { status: 'rejected', reason: { problem: { code: 'not_found' } } })
    t.same(
      (foreign as PromiseRejectedResult).reason.problem,
      (missing as PromiseRejectedResult).reason.problem,
    )
  }
  t.same((await renders.list(bob.userId, { limit: 10 })).items, [])
  t.same((await renders.list(bob.userId, { limit: 10, projectId: project.id })).items, [])
  t.match(await problemOf(renders.create(bob, project.id)), { code: 'not_found' })
  t.match(await renders.get(alice.userId, id), { state: 'queued' })
})

t.test('lists page and filter, newest first', async t => {
  const { renders, alice, project, createProject, ended } = await setStage(t)
  const other = await createProject(alice, DRAFT)
  const first = await renders.create(alice, project.id)
  await ended(first.id)
  const second = await renders.create(alice, other.id)
  const third = await renders.create(alice, project.id)
  const ids = async (a: Omit<Parameters<typeof renders.list>[1], 'limit'>, limit = 10) => {
    const { items, next } = await renders.list(alice.userId, { ...a, limit })
    return [items.map(item => item.id), next]
  }
  t.same(await ids({}), [[third.id, second.id, first.id], null])
  t.same(await ids({}, 2), [[third.id, second.id], second.id])
  t.same(await ids({ after: second.id }), [[first.id], null])
  t.same(await ids({ state: 'completed' }), [[first.id], null])
  t.same(await ids({ projectId: other.id }), [[second.id], null])
})

t.test('the same request gives the same render, also at the same moment', async t => {
  const { renders, alice, project, createProject } = await setStage(t)
  const ask = () => renders.create(alice, project.id, { requestKey: 'once' })
  const all = await Promise.all([ask(), ask(), ask()])
  t.equal(new Set([...all, await ask()].map(render => render.id)).size, 1)
  const other = await createProject(alice, DRAFT)
  t.not((await renders.create(alice, other.id, { requestKey: 'once' })).id, all[0]!.id)
})
