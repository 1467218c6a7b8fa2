import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import t from 'tap'
import { setStage } from './stage.ts'

type Stage = Awaited<ReturnType<typeof setStage>>

/** Waits for the workers to bring it about; makes no pass itself. */
async function seen(condition: () => Promise<boolean> | boolean) {
  for (const end = Date.now() + 10_000; Date.now() < end; await sleep(5)) if (await condition()) return
  throw new Error('it never happened')
}

const isCompleted =
  ({ renders, alice }: Stage, id: string) =>
  async () =>
    (await renders.get(alice.userId, id)).state === 'completed'

t.test('the worker follows renders by itself and wakes for new ones', async t => {
  const stage = await setStage(t)
  const { renders, alice, project } = stage
  renders.start()
  await sleep(0)
  const first = await renders.create(alice, project.id)
  await seen(isCompleted(stage, first.id))
  const second = await renders.create(alice, project.id)
  await seen(isCompleted(stage, second.id))
  await renders.stop()

  const third = await renders.create(alice, project.id)
  await seen(async () => {
    const { rows } = await stage.execute(
      sql`select 1 from renders where id = ${third.id} and next_poll_at <= now()`,
    )
    return rows.length === 1
  })
  t.match(await renders.get(alice.userId, third.id), { state: 'queued' }, 'a stopped worker claims nothing')
  renders.start()
  await seen(isCompleted(stage, third.id))
  t.same(stage.errors, [])
})

t.test('stopping gives back what is claimed, and another instance goes on', async t => {
  const stage = await setStage(t)
  const { renders, alice, project, sandbox, heard, createInstance, execute } = stage
  const other = await createInstance()
  sandbox.faults.add({ on: 'render_poll', answer: 'hang' })
  renders.start()
  const { id } = await renders.create(alice, project.id)
  await seen(() => heard('render_poll').length === 1)
  const began = performance.now()
  await renders.stop()
  t.ok(performance.now() - began < 5_000)
  t.match(
    (await execute(sql`select lease, next_poll_at <= now() as due from renders where id = ${id}`)).rows,
    [{ lease: null, due: true }],
  )
  other.renders.start()
  await seen(isCompleted(stage, id))
  t.equal(heard('render').length, 1)
})

t.test('a worker without a database goes on when it is back', async t => {
  const stage = await setStage(t)
  const { renders, alice, project, execute, errors } = stage
  const { id } = await renders.create(alice, project.id)
  await execute(sql`alter table renders rename to gone`)
  renders.start()
  await seen(() => errors.length > 0)
  await execute(sql`alter table gone rename to renders`)
  await seen(isCompleted(stage, id))
})
