import { sql } from 'drizzle-orm'
import t from 'tap'
import { createAdvance } from '../../../src/services/renders/advance.ts'
import { setStage } from './stage.ts'

const body = (value: unknown) => ({ answer: 'body' as const, body: JSON.stringify(value) })

t.test('a crash between the intent and the submission: another instance submits once', async t => {
  const { renders, alice, project, createInstance, ended, heard, attempts, expire } = await setStage(t)
  const { id } = await renders.create(alice, project.id)
  const dying = await createInstance()
  const [claim] = await dying.record.claim(1)
  await dying.record.intend(claim!, 'render_1', undefined, 10)
  t.match(await renders.get(alice.userId, id), { state: 'submitting', attempts: 1 })
  t.equal(await renders.advanceDue(), 0, 'claimed: nobody else looks')

  await expire()
  t.match(await ended(id), { state: 'completed', attempts: 1 })
  t.match(heard('render'), [{ renderId: 'render_1', accepted: true }])
  const calls = [...heard('render_poll'), ...heard('render')].toSorted((a, b) => a.at - b.at)
  t.equal(calls[0]!.endpoint, 'render_poll', 'it asks before it sends')
  t.same(await attempts(id), [{ upstream_id: 'render_1', delivery: 'acknowledged', outcome: 'completed' }])
})

t.test('a submission without an answer is asked for, not sent again', async t => {
  const { renders, alice, project, sandbox, ended, heard } = await setStage(t)
  for (const answer of [
    { answer: 'reset' } as const,
    { answer: 'html', status: 502, act: true } as const,
    { answer: 'garbage', act: true } as const,
    { answer: 'status', status: 408, act: true } as const,
  ]) {
    const before = heard('render').length
    sandbox.faults.add({ on: 'render', ...answer })
    const { id } = await renders.create(alice, project.id)
    t.match(await ended(id), { state: 'completed', attempts: 1 })
    t.match(heard('render').slice(before), [{ accepted: true, fault: answer.answer }], answer.answer)
  }
})

t.test('a submission that was lost on its way is sent again under its id', async t => {
  const { renders, alice, project, sandbox, ended, heard } = await setStage(t)
  for (const answer of [
    { answer: 'reset', act: false } as const,
    { answer: 'status', status: 429, retryAfter: 0 } as const,
    { answer: 'status', status: 503 } as const,
    { answer: 'code', code: 1002 } as const,
  ]) {
    const before = heard('render').length
    sandbox.faults.add({ on: 'render', ...answer })
    const { id } = await renders.create(alice, project.id)
    t.match(await ended(id), { state: 'completed', attempts: 1 })
    const sent = heard('render').slice(before)
    t.same(
      sent.map(entry => entry.accepted),
      [false, true],
      JSON.stringify(answer),
    )
    t.equal(new Set(sent.map(entry => entry.renderId)).size, 1)
  }
})

t.test('an id that was used already means that the submission was heard', async t => {
  const { renders, alice, project, sandbox, ended, heard } = await setStage(t)
  sandbox.faults.add({ on: 'render', answer: 'reset' })
  sandbox.faults.add({
    on: 'render_poll',
    ...body({ success: false, error: 'Render not found' }),
    status: 404,
    times: 2,
  })
  const { id } = await renders.create(alice, project.id)
  t.match(await ended(id), { state: 'completed', attempts: 1 })
  t.match(heard('render'), [{ accepted: true }, { accepted: false, answer: 'refused' }])
})

t.test('a failed render is made once more under a new id', async t => {
  const { renders, alice, project, sandbox, ended, heard, attempts, told } = await setStage(t)
  sandbox.faults.add({ on: 'render', answer: 'fail' })
  const { id } = await renders.create(alice, project.id)
  t.match(await ended(id), { state: 'completed', attempts: 2 })
  t.equal(new Set(heard('render').map(entry => entry.renderId)).size, 2)
  t.match(await attempts(id), [{ outcome: 'failed' }, { outcome: 'completed' }])

  sandbox.faults.add({ on: 'render', answer: 'fail', times: 9 })
  const second = await renders.create(alice, project.id)
  const failed = await ended(second.id)
  t.match(failed, {
    state: 'failed',
    attempts: 2,
    problem: { code: 'upstream_unavailable', userState: { message: /export/, action: { kind: 'retry' } } },
  })
  t.notOk(failed.file)
  t.equal((await told()).filter(one => one.state === 'failed').length, 1)
})

t.test('a refusal that only the user can help ends the render at once', async t => {
  const { renders, alice, project, sandbox, ended, heard } = await setStage(t)
  sandbox.faults.add({ on: 'render', answer: 'code', code: 402, status: 402 })
  const { id } = await renders.create(alice, project.id)
  t.match(await ended(id), {
    state: 'failed',
    attempts: 1,
    problem: { code: 'upgrade_required', userState: { action: { kind: 'upgrade' } } },
  })
  t.equal(heard('render').length, 1)
})

t.test('what says nothing of the render changes nothing, and progress never goes back', async t => {
  const { renders, alice, project, sandbox, ended, until, told, heard } = await setStage(t, {
    sandbox: { speed: { renderMs: 400 } },
  })
  const { id } = await renders.create(alice, project.id)
  await until(id, render => render.progress >= 20)
  const poll = 'render_poll' as const
  sandbox.faults.add({ on: poll, answer: 'status', status: 408 })
  sandbox.faults.add({ on: poll, answer: 'status', status: 429, retryAfter: 0 })
  sandbox.faults.add({ on: poll, answer: 'status', status: 500 })
  sandbox.faults.add({ on: poll, answer: 'html', status: 200 })
  sandbox.faults.add({ on: poll, answer: 'reset' })
  sandbox.faults.add({ on: poll, answer: 'garbage' })
  sandbox.faults.add({ on: poll, answer: 'empty' })
  sandbox.faults.add({ on: poll, answer: 'status', status: 403 })
  sandbox.faults.add({ on: poll, ...body({ taskId: 'x', status: 'processing', progress: 1 }) })
  sandbox.faults.add({ on: poll, ...body({ taskId: 'x', status: 'pending' }) })
  t.match(await ended(id), { state: 'completed', attempts: 1 })
  t.same(sandbox.faults.list(), [], 'all of it happened')
  const story = await told()
  const progress = story.map(one => one.progress)
  t.same(
    progress,
    progress.toSorted((a, b) => a - b),
  )
  t.equal(story.filter(one => one.state === 'completed').length, 1)
  t.equal(heard('render').length, 1)
})

t.test('hostile figures and links do not keep a render from its end', async t => {
  const { renders, alice, project, sandbox, until, ended } = await setStage(t, {
    sandbox: { speed: { renderMs: 60_000 } },
  })
  const { id } = await renders.create(alice, project.id)
  await until(id, render => render.state === 'rendering')
  const output = { url: `http://x.example/\u0000${'é'.repeat(9_000)}`, size: 1.5e300, duration: 1e12 }
  sandbox.faults.add({
    on: 'render_poll',
    ...body({ taskId: 'x', status: 'completed', progress: 1e9, output }),
  })
  const render = await ended(id)
  t.match(render, { state: 'completed', progress: 100 })
  t.same(render.file, { href: `/v1/renders/${id}/file` })
})

t.test('a worker whose claim has passed on writes nothing', async t => {
  const { renders, alice, project, createInstance, sandbox, until, ended, told, errors, expire } =
    await setStage(t, {
      sandbox: { speed: { renderMs: 60_000 } },
    })
  const { id } = await renders.create(alice, project.id)
  await until(id, render => render.state === 'rendering')

  const zombie = await createInstance()
  await expire()
  const [claim] = await zombie.record.claim(1)
  await expire()
  for (const job of sandbox.state.world.renders) job.workMs = 1
  const completed = await ended(id)
  t.match(completed, { state: 'completed' })

  const before = (await told()).length
  sandbox.faults.add({ on: 'render_poll', ...body({ taskId: 'x', status: 'failed' }) })
  const advance = createAdvance(zombie)
  await t.rejects(advance(claim!), { name: 'StaleClaimError' })
  t.same(await renders.get(alice.userId, id), completed)
  t.equal((await told()).length, before)
  t.same(errors, [])
})

t.test('a worker that was stopped before its submission does not send it any more', async t => {
  const { renders, alice, project, createInstance, heard, ended, expire } = await setStage(t)
  const { id } = await renders.create(alice, project.id)
  const zombie = await createInstance({ leaseMs: 0 })
  const advance = createAdvance(zombie)
  const [claim] = await zombie.record.claim(1)
  await advance(claim!)
  t.same(heard('render'), [])
  await expire()
  t.match(await ended(id), { state: 'completed', attempts: 1 })
  t.equal(heard('render').length, 1)
})

t.test('two instances on one database make each poll once', async t => {
  // A second between polls: none is due again before both have looked.
  const stage = await setStage(t, { pollMs: 1_000 })
  const { renders, alice, createProject, createInstance, ended, heard } = stage
  const other = await createInstance()
  const ids: string[] = []
  for (let i = 0; i < 6; i++) {
    const project = await createProject(alice, '{"t":[{"tt":0,"sg":[{"d":1000}]}]}')
    ids.push((await renders.create(alice, project.id)).id)
  }
  const counts = await Promise.all([renders.advanceDue(), other.renders.advanceDue()])
  t.equal(counts[0]! + counts[1]!, 6)
  t.equal(heard('render').length, 6)
  for (const id of ids) t.match(await ended(id, other.renders), { state: 'completed', attempts: 1 })
  t.equal(heard('render').length, 6)
})

t.test('a render that does not end within a day is lost', async t => {
  const { renders, alice, project, until, ended, execute, heard, attempts } = await setStage(t, {
    sandbox: { speed: { renderMs: 60_000 } },
  })
  const { id } = await renders.create(alice, project.id)
  await until(id, render => render.state === 'rendering')
  await execute(sql`update renders set follow_until = now() - interval '1 second' where id = ${id}`)
  t.match(await ended(id), { state: 'failed', problem: { code: 'render_lost' } })
  t.match(await attempts(id), [{ outcome: 'lost' }])
  const polls = heard('render_poll').length
  await renders.advanceDue()
  t.equal(heard('render_poll').length, polls, 'and nobody asks any more')
})

t.test('a film that came late is still a film', async t => {
  const { renders, alice, project, until, ended, execute, sandbox } = await setStage(t, {
    sandbox: { speed: { renderMs: 60_000 } },
  })
  const { id } = await renders.create(alice, project.id)
  await until(id, render => render.state === 'rendering')
  await execute(sql`update renders set follow_until = now() - interval '1 second' where id = ${id}`)
  for (const job of sandbox.state.world.renders) job.workMs = 1
  t.match(await ended(id), { state: 'completed' })
})

t.test('a session that is gone is replaced, and the draft that was kept is exported', async t => {
  const { renders, alice, project, sandbox, ended, heard, log } = await setStage(t)
  const { id } = await renders.create(alice, project.id)
  sandbox.faults.dropSession('all')
  t.match(await ended(id), { state: 'completed', attempts: 1 })
  const sent = heard('render')
  t.same(
    sent.map(entry => entry.accepted),
    [false, true],
  )
  t.not(sent[1]!.sessionId, project.sessionId)
  const page = await log.page(project.id, undefined, 100)
  t.ok(
    page !== 'not a cursor' && page.entries.some(entry => entry.chunk.includes('project.session_replaced')),
  )
})

t.test('a token that died is renewed on the way', async t => {
  const { renders, alice, project, sandbox, ended, heard } = await setStage(t)
  const { id } = await renders.create(alice, project.id)
  sandbox.faults.revokeToken('all')
  t.match(await ended(id), { state: 'completed', attempts: 1 })
  t.equal(heard('mint').length, 2)
})

t.test('a cancellation that meets an unknown submission finds out first', async t => {
  const { renders, alice, project, sandbox, ended, until, heard } = await setStage(t, {
    sandbox: { speed: { renderMs: 60_000 } },
  })
  sandbox.faults.add({ on: 'render', answer: 'reset', act: false })
  const lost = await renders.create(alice, project.id)
  await until(lost.id, render => render.state === 'submitting')
  t.match(await renders.cancel(alice.userId, lost.id), { state: 'submitting' })
  t.match(await ended(lost.id), { state: 'cancelled' })
  t.equal(heard('render').length, 1, 'it was never sent again')

  sandbox.faults.add({ on: 'render', answer: 'reset' })
  const taken = await renders.create(alice, project.id)
  await until(taken.id, render => render.state === 'submitting')
  await renders.cancel(alice.userId, taken.id)
  t.match(await ended(taken.id), { state: 'cancelled' })
  t.match(heard('cancel').at(-1), { accepted: true })
})

t.test('a queued render of a deleted project is dropped', async t => {
  const { renders, projects, alice, project, heard, execute } = await setStage(t)
  const { id } = await renders.create(alice, project.id)
  await projects.remove(alice.userId, project.id)
  await renders.advanceDue()
  t.same((await execute(sql`select state from renders where id = ${id}`)).rows, [{ state: 'cancelled' }])
  t.same(heard('render'), [])
})

t.test(
  'a linked account that needs its user pauses the render, which goes on when they are back',
  async t => {
    const stage = await setStage(t, { sandbox: { speed: { renderMs: 150 } } })
    const { renders, alice, project, sandbox, execute, expire, ended, until, told, heard } = stage
    await execute(sql`update upstream_accounts set kind = 'linked' where user_id = ${alice.userId}`)
    const { id } = await renders.create(alice, project.id)
    await until(id, render => render.state === 'rendering')
    sandbox.faults.revokeToken('all')
    const paused = await until(id, render => render.needsUser)
    t.match(paused, {
      state: 'rendering',
      problem: { code: 'reauth_required', userState: { action: { kind: 'link_account' } } },
    })

    await execute(sql`update renders set follow_until = now() - interval '1 second'`)
    const asked = heard('render_poll').length
    for (let look = 0; look < 20; look++) {
      await expire()
      await renders.advanceDue()
    }
    t.match(
      await renders.get(alice.userId, id),
      { state: 'rendering', needsUser: true },
      'for as long as it takes',
    )
    t.equal(heard('render_poll').length - asked, 2, 'the refused token is seldom tried')

    for (const account of sandbox.state.world.accounts) account.revoked = false
    await execute(sql`update upstream_accounts set state = 'ready' where user_id = ${alice.userId}`)
    const done = await ended(id)
    t.match(done, { state: 'completed', attempts: 1, needsUser: false })
    t.notOk(done.problem)
    const story = await told()
    t.equal(story.filter(one => one.needsUser).length, 1, 'told once')
    t.equal(heard('render').length, 1)
  },
)

t.test(
  'an export that was asked for while the user’s token is dead waits for them before it is sent',
  async t => {
    const { renders, alice, project, sandbox, execute, expire, ended, until, heard } = await setStage(t)
    await execute(sql`update upstream_accounts set kind = 'linked' where user_id = ${alice.userId}`)
    const { id } = await renders.create(alice, project.id)
    sandbox.faults.revokeToken('all')
    t.match(await until(id, render => render.needsUser), { state: 'submitting', attempts: 1 })
    t.match(heard('render'), [{ accepted: false }])
    await expire()
    for (const account of sandbox.state.world.accounts) account.revoked = false
    await execute(sql`update upstream_accounts set state = 'ready' where user_id = ${alice.userId}`)
    t.match(await ended(id), { state: 'completed', attempts: 1, needsUser: false })
    t.equal(heard('render').filter(entry => entry.accepted).length, 1)
  },
)

t.test('a render that was given up is asked for once more when somebody wants it', async t => {
  const { renders, alice, project, execute, until, told, heard, attempts } = await setStage(t)
  const give = async () => {
    const { id } = await renders.create(alice, project.id)
    await until(id, render => render.state === 'rendering')
    await execute(sql`
      update renders set state = 'failed', next_poll_at = null, lease = null,
        problem = '{"code":"render_lost"}' where id = ${id}`)
    await execute(sql`update render_attempts set outcome = 'lost' where render_id = ${id}`)
    return id
  }
  const signal = new AbortController().signal
  const fetched = await give()
  await new Promise(resolve => setTimeout(resolve, 60))
  const { status, body } = await renders.file(alice.userId, fetched, {
    range: null,
    ifRange: null,
    ifNoneMatch: null,
    signal,
  })
  body.on('error', () => {}).destroy()
  t.equal(status, 200, 'its film is there')
  t.match(await renders.get(alice.userId, fetched), { state: 'completed', progress: 100 })
  t.match(await attempts(fetched), [{ outcome: 'completed' }])

  const retried = await give()
  await new Promise(resolve => setTimeout(resolve, 60))
  t.match(await renders.retry(alice, retried), { state: 'completed', attempts: 1 })
  t.equal(heard('render').length, 2, 'nothing was submitted anew')
  const endings = (await told()).filter(one => one.state === 'completed').map(one => one.id)
  t.same(endings.toSorted(), [fetched, retried].toSorted(), 'each is told once')
})
