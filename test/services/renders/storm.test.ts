import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import type { Fault } from '../../../sandbox/server.ts'
import { isTerminal } from '../../../src/services/renders/states.ts'
import { setStage } from './stage.ts'

const anywhere = fc.constantFrom<Fault>(
  ...(['render', 'render_poll'] as const).flatMap((on): Fault[] => [
    { on, answer: 'reset' },
    { on, answer: 'reset', act: false },
    { on, answer: 'html', status: 502 },
    { on, answer: 'html', status: 502, act: true },
    { on, answer: 'garbage', act: true },
    { on, answer: 'status', status: 408, act: true },
    { on, answer: 'status', status: 429, retryAfter: 0 },
    { on, answer: 'status', status: 503 },
    { on, answer: 'empty' },
    { on, answer: 'slow', ms: 60 },
    { on, answer: 'code', code: 1002 },
  ]),
)
const submission = fc.constantFrom<Fault>(
  { on: 'render', answer: 'fail' },
  { on: 'render_poll', answer: 'body', body: '{"success":false,"error":"Render not found"}', status: 404 },
)
const faults = fc.array(fc.oneof({ weight: 4, arbitrary: anywhere }, submission), { maxLength: 6 })

t.test('whatever happens, and with claims that run out in the middle of a call', async t => {
  const stage = await setStage(t, { leaseMs: 30, pollMs: 10 })
  const { renders, alice, createProject, createInstance, sandbox, heard, attempts, told, errors } = stage
  const instances = [renders, (await createInstance()).renders, (await createInstance()).renders]
  for (const instance of instances) instance.start()

  await fc.assert(
    fc.asyncProperty(faults, async all => {
      sandbox.faults.clear()
      const project = await createProject(alice, '{"t":[{"tt":0,"sg":[{"d":1000}]}]}')
      for (const fault of all) sandbox.faults.add(fault)
      const { id } = await renders.create(alice, project.id)
      let render = await renders.get(alice.userId, id)
      for (const end = Date.now() + 10_000; !isTerminal(render.state) && Date.now() < end; await sleep(5))
        render = await renders.get(alice.userId, id)

      const wrong = (what: string) => new Error(`${what}: ${JSON.stringify(render)}`)
      if (!isTerminal(render.state)) throw wrong('it does not end')
      const ids = (await attempts(id)).map(attempt => attempt.upstream_id)
      if (ids.length !== render.attempts || ids.length > 2) throw wrong('too many attempts')
      for (const upstreamId of ids) {
        const accepted = heard('render').filter(entry => entry.renderId === upstreamId && entry.accepted)
        if (accepted.length > 1) throw wrong('accepted twice')
      }
      if (
        sandbox.state.world.renders.some(job => job.sessionId === project.sessionId && !ids.includes(job.id))
      )
        throw wrong('an id that nobody wrote down')
      const story = await told(project.id)
      if (story.filter(one => isTerminal(one.state)).length !== 1) throw wrong('ended more than once')
      const progress = story.map(one => one.progress)
      if (progress.some((value, i) => value < (progress[i - 1] ?? 0))) throw wrong('progress went back')
    }),
    { numRuns: 25 },
  )
  await Promise.all(instances.map(instance => instance.stop()))
  t.same(errors, [])
})
