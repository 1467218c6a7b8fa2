/** What one would write by hand: each poll is a job of pg-boss that asks, and sends the job of the next poll. */
import { PgBoss } from 'pg-boss'
import { Pool } from 'undici'

const { DATABASE_URL = '', NEMO_API_URL = '', COUNT = '0', PERIOD = '30000', START = '0' } = process.env
const AT_ONCE = 8
const QUEUE = 'polls'

const upstream = new Pool(NEMO_API_URL, { connections: 64 })
const boss = new PgBoss({ connectionString: DATABASE_URL, schema: 'peer', max: 10 })
boss.on('error', console.error)
await boss.start()
await boss.createQueue(QUEUE, { retryLimit: 100, deleteAfterSeconds: 60 })
const jobs = Array.from({ length: Number(COUNT) }, (_, n) => ({
  data: { id: `render_${n}` },
  startAfter: new Date(Number(START) + (n * Number(PERIOD)) / Number(COUNT)),
}))
for (let i = 0; i < jobs.length; i += 1_000) await boss.insert(QUEUE, jobs.slice(i, i + 1_000))
console.log('Server listening at http://nowhere ')

async function work() {
  while (true) {
    const [job] = await boss.fetch<{ id: string }>(QUEUE)
    if (!job) {
      await new Promise(resolve => setTimeout(resolve, 20))
      continue
    }
    const { body } = await upstream.request({
      method: 'GET',
      path: `/api/render/proxy/lambda/${job.data.id}`,
    })
    await body.json()
    await boss.send(QUEUE, job.data, { startAfter: new Date(Date.now() + Number(PERIOD)) })
    await boss.complete(QUEUE, job.id)
  }
}
await Promise.all(Array.from({ length: AT_ONCE }, work))
