import t from 'tap'
import { playScene, type Scene } from './scene.ts'

// `npm run chaos` plays all points; the freeze here is only as long as it takes to lose a claim.
const scenes: Scene[] = [
  { point: 'run.mid_stream', how: 'kill', hit: 2, frozenMs: 0 },
  { point: 'render.after_post', how: 'kill', hit: 1, frozenMs: 0 },
  { point: 'render.after_poll', how: 'stop', hit: 1, frozenMs: 16_000 },
]

t.jobs = scenes.length
for (const scene of scenes)
  t.test(`${scene.point}, ${scene.how}: the other instance goes on`, { buffered: true }, async t => {
    await playScene(t, scene)
  })
