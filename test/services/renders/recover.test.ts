import { buffer } from 'node:stream/consumers'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { renderFile } from '../../../sandbox/files.ts'
import { problemOf, setStage } from './stage.ts'

const request = { range: null, ifRange: null, ifNoneMatch: null, signal: new AbortController().signal }

/** A render that the backend works on for longer than it is followed. */
async function setSlowRender(t: Parameters<typeof setStage>[0]) {
  const stage = await setStage(t, { sandbox: { speed: { renderMs: 3_600_000 } } })
  const { renders, alice, project, until, execute, expire, sandbox } = stage
  const { id } = await renders.create(alice, project.id)
  await until(id, render => render.state === 'rendering')
  return {
    ...stage,
    id,
    /** Lets this time pass as far as the gateway can see. */
    async pass(interval: string) {
      await execute(sql`update renders set submitted_at = submitted_at - ${interval}::interval,
        follow_until = follow_until - ${interval}::interval where id = ${id}`)
      await expire()
      await renders.advanceDue()
      return renders.get(alice.userId, id)
    },
    finish() {
      for (const job of sandbox.state.world.renders) job.workMs = 1
    },
    open: () => renders.file(alice.userId, id, request),
  }
}

t.test('lost after a day, finished after that, found when it is wanted: told once', async t => {
  const { id, pass, finish, open, renders, alice, heard, told, attempts } = await setSlowRender(t)
  t.match(await pass('23 hours 59 minutes'), { state: 'rendering' }, 'a day is not over')
  t.match(await pass('1 minute'), { state: 'failed', problem: { code: 'render_lost' } })
  finish()
  t.match(await renders.get(alice.userId, id), { state: 'failed' }, 'to look at it is not to want the film')

  for (const file of await Promise.all([open(), open()]))
    t.ok((await buffer(file.body)).equals(renderFile.bytes))
  t.match(await renders.get(alice.userId, id), { state: 'completed', progress: 100, attempts: 1 })
  t.match(await attempts(id), [{ outcome: 'completed' }])
  t.match(
    (await told()).map(({ state }) => state).filter(state => state === 'failed' || state === 'completed'),
    ['failed', 'completed'],
  )
  const polls = heard('render_poll').length
  await buffer((await open()).body)
  t.equal(heard('render_poll').length, polls, 'what was found is not looked for again')
  t.equal(heard('render').length, 1, 'and it was submitted once')
})

t.test('lost, and not finished yet or not to be asked: it stays lost and can be asked for again', async t => {
  const { pass, finish, open, sandbox, heard } = await setSlowRender(t)
  await pass('25 hours')
  const polls = heard('render_poll').length
  t.match(await problemOf(open()), { code: 'not_ready' })
  t.equal(heard('render_poll').length, polls + 1, 'the backend was asked')
  finish()
  sandbox.faults.add({ on: 'render_poll', answer: 'status', status: 503 })
  t.match(await problemOf(open()), { code: 'not_ready' })
  t.equal((await open()).status, 200)
})

t.test('a render that failed is not looked for', async t => {
  const { renders, alice, project, ended, sandbox, heard } = await setStage(t)
  sandbox.faults.add({ on: 'render', answer: 'fail', times: 2 })
  const { id } = await renders.create(alice, project.id)
  t.match(await ended(id), { state: 'failed', problem: { code: 'upstream_unavailable' } })
  const polls = heard('render_poll').length
  t.match(await problemOf(renders.file(alice.userId, id, request)), { code: 'not_ready' })
  t.equal(heard('render_poll').length, polls)
})
