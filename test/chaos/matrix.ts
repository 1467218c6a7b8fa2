/**
 * `npm run chaos`: every kill point, with kill -9 and with a process that freezes for 45 s, at the first and at later
 * passings, with two instances.
 *
 *   node test/run.ts test/chaos/matrix.ts --timeout=3600 --reporter=tap [--test-arg=<part of a name>]
 */
import t from 'tap'
import { CRASH_POINTS, type CrashPoint } from '../../src/crash-points.ts'
import { playScene } from './scene.ts'

const FROZEN_MS = 45_000
const AT_ONCE = 4
const LATER_HITS: Partial<Record<CrashPoint, number[]>> = {
  'run.after_accept': [2],
  'run.after_take': [2],
  'run.after_intent': [2],
  'run.after_post': [2],
  'run.mid_stream': [2, 3, 5],
  'run.after_reconcile_read': [2],
  'run.after_end': [2],
  'render.after_create': [2],
  'render.after_claim': [2, 3, 5],
  'render.before_intent': [2],
  'render.after_intent': [2],
  'render.after_post': [2],
  'render.after_accept': [2],
  'render.after_poll': [2, 3, 5],
  'render.after_end': [2],
}

const wanted = process.argv[2] ?? ''
const scenes = CRASH_POINTS.flatMap(point => [
  ...[1, ...(LATER_HITS[point] ?? [])].map(hit => ({ point, how: 'kill' as const, hit })),
  { point, how: 'stop' as const, hit: 1 },
]).filter(({ point, how, hit }) => `${point}:${how}:${hit}`.includes(wanted))

t.jobs = AT_ONCE
t.setTimeout(3_600_000)
for (const scene of scenes) {
  const name = `${scene.point}:${scene.how}:${scene.hit}`
  t.test(name, { buffered: true, timeout: 300_000 }, async t => {
    const takeoverMs = await playScene(t, { ...scene, frozenMs: FROZEN_MS })
    console.error(`${t.passing() ? 'ok    ' : 'FAILED'} ${name}: gone on after ${Math.round(takeoverMs)} ms`)
  })
}
