import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { Fault } from '../../../sandbox/server.ts'
import { deleteProject } from '../../../src/db/projects.ts'
import { createTokenVault } from '../../../src/services/accounts/token-vault.ts'
import { isTerminal } from '../../../src/services/runs/states.ts'
import type { ProjectState, UpstreamClient } from '../../../src/services/upstream/client.ts'
import type { Outcome } from '../../../src/services/upstream/failures.ts'
import { type Json, QUESTION, setStage, TITLE, textOf } from './stage.ts'

/** Says something to a project with a clip, once the upstream is set to misbehave, and works on it once. */
async function runOnce(t: Test, text: string, faults: Fault[], options: Parameters<typeof setStage>[1] = {}) {
  const stage = await setStage(t, options)
  await stage.openSession()
  for (const fault of faults) stage.sandbox.faults.add(fault)
  const run = await stage.say(text)
  await stage.work(run.id)
  return { stage, row: await stage.row(run.id), chunks: await stage.story(run.id) }
}

const runStates = (entries: Json[], id: string) =>
  entries
    .filter(entry => entry.chunk.name === 'run.state' && entry.chunk.value.id === id)
    .map(entry => entry.chunk.value.state)

t.test('ordinary answers', async t => {
  t.test('a question is answered', async t => {
    const { row, chunks, stage } = await runOnce(t, QUESTION, [])
    t.match(row, { state: 'completed', outcome: 'answered', delivery: 'acknowledged', reply: /trim/i })
    t.equal(textOf(chunks).trim(), row.reply)
    t.strictSame(runStates(await stage.entries(), row.id), ['queued', 'running', 'completed'])
  })

  t.test('an edit', async t => {
    const { row, chunks } = await runOnce(t, TITLE, [])
    t.match(row, { state: 'completed', outcome: 'edited', summary: /Title added: “Hello”/ })
    t.equal(row.creditsBefore! - row.creditsAfter!, 5)
    t.ok(chunks.some(chunk => chunk.type === 'STATE_DELTA'))
  })

  t.test('every shape and framing of the stream says the same', async t => {
    const faults: Fault[] = [
      { on: 'run', answer: 'shape', shape: 'typed' },
      { on: 'run', answer: 'shape', shape: 'bare' },
      { on: 'run', answer: 'framing', framing: 'crlf' },
      { on: 'run', answer: 'repeat_ids' },
      { on: 'run', answer: 'trailing_issue' },
      { on: 'run', answer: 'bad_frame', frames: 1 },
    ]
    const { row } = await runOnce(t, QUESTION, [])
    for (const fault of faults) {
      const other = await runOnce(t, QUESTION, [fault])
      t.match(other.row, { state: 'completed', outcome: 'answered', reply: row.reply! }, fault.answer)
    }
  })

  t.test('nothing said, nothing changed', async t => {
    const { row, chunks } = await runOnce(t, QUESTION, [{ on: 'run', answer: 'no_frames' }])
    t.match(row, { state: 'completed', outcome: 'unchanged', reply: 'Nothing changed.' })
    t.match(chunks.at(-1), { type: 'RUN_FINISHED', metadata: { silent: true } })
  })

  t.test('a silent edit is summed up', async t => {
    const { row, chunks } = await runOnce(t, TITLE, [{ on: 'run', answer: 'no_frames' }])
    t.match(row, { state: 'completed', outcome: 'edited', reply: /^Done: Title added/ })
    t.match(chunks.at(-1), { metadata: { silent: true } })
  })

  t.test('a silent edit that shows only after the end is waited for', async t => {
    for (const silentEndMs of [3_000, 0]) {
      let ended = false
      let reads = 0
      let old: Outcome<ProjectState> | null = null
      const { row } = await runOnce(t, TITLE, [{ on: 'run', answer: 'no_frames' }], {
        limits: { silentEndMs },
        upstream: real => ({
          ...real,
          async run(...call) {
            const answer = await real.run(...call)
            ended = true
            return answer
          },
          /** For a while the upstream shows what it had before. */
          async state(...call) {
            if (ended && ++reads <= 4) return old!
            old = await real.state(...call)
            return old
          },
        }),
      })
      const late = { state: 'completed', outcome: 'unchanged' }
      const found = { state: 'completed', outcome: 'edited', reply: /^Done: Title added: “Hello”/ }
      t.match(row, silentEndMs > 0 ? found : late)
      t.equal(reads >= 5, silentEndMs > 0)
    }
  })

  t.test('a generated video: the first result at once, the additions after', async t => {
    const stage = await setStage(t, { speed: { generateMs: 2_000, chunkMs: 0 } })
    const run = await stage.say('Generate a city timelapse')
    const done = stage.work(run.id)
    await stage.until(
      run.id,
      ({ type, delta }) => type === 'STATE_DELTA' && /city timelapse/.test(JSON.stringify(delta)),
    )
    t.equal((await stage.row(run.id)).state, 'running', 'the raw video is shown while the rest is made')
    await stage.until(run.id, ({ delta }) => /The raw video is there/.test(delta))
    t.equal((await stage.row(run.id)).state, 'running', 'and told')
    await done
    const chunks = await stage.story(run.id)
    const text = textOf(chunks)
    t.match(text, /The raw video is there.*Your video is ready!/s)
    t.notMatch(text, /panel|click/i)
    const { reply, summary } = await stage.row(run.id)
    t.equal(reply?.match(/The raw video/g)?.length, 1)
    t.match(summary, /city timelapse/)
    t.match(summary, /Urban Dreams/)
    t.match(summary, /Lo-fi/)
  })

  t.test('the model declines', async t => {
    const { row, chunks } = await runOnce(t, QUESTION, [
      { on: 'run', answer: 'error_frame', frames: 1, spelling: 'code', code: 'SAFETY' },
    ])
    t.match(row, { state: 'failed', problem: { userState: { code: 'content_filtered' } } })
    t.match(chunks.at(-1), { type: 'RUN_ERROR', code: 'content_filtered' })
  })

  t.test('an edit that was made before the error is shown', async t => {
    const { row, chunks } = await runOnce(t, TITLE, [
      { on: 'run', answer: 'error_frame', frames: 99, act: true },
    ])
    t.equal(row.state, 'failed')
    t.ok(chunks.some(chunk => chunk.type === 'STATE_DELTA'))
  })
})

t.test('a message that was not taken', async t => {
  t.test('a long rate limit is told, not waited for', { timeout: 5_000 }, async t => {
    const { row } = await runOnce(t, TITLE, [{ on: 'run', answer: 'status', status: 429, retryAfter: 3600 }])
    t.match(row, { state: 'failed', delivery: 'not_sent', problem: { code: 'rate_limited' } })
    const retryAt = Date.parse(row.problem!.userState!.action!.retryAt!)
    t.ok(retryAt > Date.now() + 3_000_000, 'with the time to come back')
  })

  t.test('it is no unknown outcome when only the way to it failed', async t => {
    for (const [code, on] of [
      [1001, 'mint'],
      [1002, 'session'],
    ] as const) {
      const { row, stage } = await runOnce(t, TITLE, [
        { on: 'run', answer: 'code', code },
        { on, answer: 'status', status: 500, times: 9 },
      ])
      t.match(row, { state: 'failed', delivery: 'not_sent', problem: { code: 'upstream_unavailable' } }, on)
      t.equal(stage.sent(TITLE), 0)
    }
  })

  t.test('credits that are no whole number do not matter', async t => {
    const body = '{"code":0,"data":{"available":99.5,"frozen":0.5,"total":1e300}}'
    const { row } = await runOnce(t, TITLE, [{ on: 'credits', answer: 'body', body, times: 2 }])
    t.match(row, { state: 'completed', creditsBefore: 99 })
  })

  t.test(
    'a dead token inside the stream, of a guest or of everybody, asks nobody to link an account',
    async t => {
      for (const sharedToken of [false, true]) {
        const fault: Fault = {
          on: 'run',
          answer: 'error_frame',
          spelling: 'error',
          message: 'token has expired',
        }
        const { row } = await runOnce(t, QUESTION, [fault], { sharedToken })
        t.match(row, { state: 'failed', problem: { userState: { code: 'upstream_unavailable' } } })
      }
    },
  )
})

t.test('a session that is replaced under way', async t => {
  t.test('the message goes to the new one, and the copies follow', async t => {
    const { row, chunks, stage } = await runOnce(t, TITLE, [{ on: 'run', answer: 'code', code: 1002 }])
    t.match(row, { state: 'completed', outcome: 'edited', summary: /^Title added: “Hello” \(0-3s\)$/ })
    t.equal(stage.sent(TITLE), 1)
    const names = (await stage.entries()).map(entry => entry.chunk.name)
    t.ok(names.includes('project.session_replaced'))
    t.ok(chunks.length > 3)
  })

  t.test('what a cut message came to in the lost one cannot be known', async t => {
    const stage = await setStage(t)
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'cut', frames: 1 })
    const run = await stage.say(QUESTION)
    const done = stage.work(run.id)
    await stage.until(run.id, chunk => chunk.type === 'RUN_STARTED')
    while ((await stage.row(run.id)).state !== 'reconciling') await sleep(2)
    stage.sandbox.faults.dropSession('all')
    await done
    t.match(await stage.row(run.id), { state: 'failed', outcome: 'unknown' })
    await stage.story(run.id)
  })

  t.test('a reader who finds it gone in the middle of an answer', async t => {
    const stage = await setStage(t)
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'silence', frames: 5, ms: 300 })
    const run = await stage.say(QUESTION)
    const done = stage.work(run.id)
    await stage.until(run.id, chunk => chunk.type === 'RUN_STARTED')
    stage.sandbox.faults.dropSession('all')
    const { revision } = await stage.timelines.view(stage.alice.userId, stage.projectId, 'web')
    t.ok(revision > 1)
    await done
    t.match(await stage.row(run.id), { state: 'completed', outcome: 'answered', summary: null })
    await stage.story(run.id)
  })
})

t.test('another worker takes the run over', async t => {
  t.test('in the middle of a message, and again while it is reconciled', async t => {
    const stage = await setStage(t, { reconcile: { firstMs: 150 } })
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'silence', frames: 40 })
    const run = await stage.say(QUESTION)
    const first = new AbortController()
    const gone = t.rejects(stage.work(run.id, 1, first.signal), { name: 'HandOverError' })
    await stage.until(run.id, chunk => chunk.type === 'TEXT_MESSAGE_CONTENT')
    first.abort()
    await gone
    const second = new AbortController()
    const goneAgain = t.rejects(stage.work(run.id, 2, second.signal), { name: 'HandOverError' })
    while ((await stage.row(run.id)).attempt < 2) await sleep(2)
    await sleep(30)
    second.abort()
    await goneAgain
    await stage.work(run.id, 3)
    t.match(await stage.row(run.id), { state: 'failed', outcome: 'unknown', reply: String })
    const chunks = await stage.story(run.id)
    t.equal(textOf(chunks).trim(), (await stage.row(run.id)).reply, 'what was said is kept')
    t.equal(stage.sent(QUESTION), 1)
  })

  t.test('after a kill in the middle of a message', async t => {
    const stage = await setStage(t)
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'silence', frames: 40, ms: 400 })
    const run = await stage.say(QUESTION)
    const zombie = stage.work(run.id, 1).catch(error => error)
    await stage.until(run.id, chunk => chunk.type === 'TEXT_MESSAGE_CONTENT')
    await stage
      .createInstance()
      .work(
        { id: run.id, data: { projectId: stage.projectId, runId: run.id }, retryCount: 1 } as never,
        new AbortController().signal,
      )
    t.match(await zombie, { name: 'LostRunError' }, 'the one that was thought dead writes nothing more')
    t.match(await stage.row(run.id), { state: 'failed', outcome: 'unknown', attempt: 2 })
    await stage.story(run.id)
    t.equal(stage.sent(QUESTION), 1)
  })

  t.test('before the message has left, it leaves once', async t => {
    const stage = await setStage(t)
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'state', answer: 'slow', ms: 100 })
    const run = await stage.say(TITLE)
    const handOver = new AbortController()
    const gone = t.rejects(stage.work(run.id, 1, handOver.signal), { name: 'HandOverError' })
    await sleep(30)
    handOver.abort()
    await gone
    t.match(await stage.row(run.id), { state: 'queued', delivery: 'not_sent' })
    await stage.work(run.id, 2)
    t.match(await stage.row(run.id), { state: 'completed', outcome: 'edited' })
    t.equal(stage.sent(TITLE), 1)
    await stage.story(run.id)
  })
})

t.test('a database that drops every connection, again and again', async t => {
  const stage = await setStage(t, { speed: { chunkMs: 25, textMs: 700 } })
  await stage.openSession()
  const run = await stage.say(QUESTION)
  const admin = new pg.Client({ connectionString: stage.url })
  await admin.connect()
  t.teardown(() => admin.end())
  const drop = `select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()`
  const done = stage.work(run.id)
  const ended = done.then(
    () => true,
    () => true,
  )
  while (!(await Promise.race([ended, sleep(500, false)]))) await admin.query(drop)
  await done
  t.match(await stage.row(run.id), { state: 'completed', outcome: 'answered', attempt: 1 })
  const chunks = await stage.story(run.id)
  t.equal(textOf(chunks).trim(), (await stage.row(run.id)).reply)
})

t.test('nothing keeps a run from ending', async t => {
  /** A vault that loses its keys when the test says so. */
  function shakyVault() {
    const vault = createTokenVault([{ id: 'test', secret: randomBytes(32) }])
    let broken = false
    const check = () => {
      if (broken) throw new Error('no key')
    }
    return {
      seal: vault.seal,
      open: (sealed: string, userId: string) => {
        check()
        return vault.open(sealed, userId)
      },
      lose: () => {
        broken = true
      },
    }
  }

  /** Attempts until one succeeds, as the queue makes them. */
  async function attempts(stage: Awaited<ReturnType<typeof setStage>>, id: string, from: number) {
    for (let attempt = from; attempt < from + 12; attempt++) {
      const failed = await stage.work(id, attempt).then(
        () => false,
        () => true,
      )
      if (!failed) return attempt
    }
    return null
  }

  t.test('a token that does not open any more, before the message', async t => {
    const vault = shakyVault()
    const stage = await setStage(t, { vault })
    await stage.openSession()
    const run = await stage.say(QUESTION)
    vault.lose()
    t.ok(await attempts(stage, run.id, 1), 'the project goes on')
    t.match(await stage.row(run.id), { state: 'failed', problem: { code: 'internal' } })
    await stage.story(run.id)
  })

  t.test('a token that does not open any more, after the message', async t => {
    const vault = shakyVault()
    const stage = await setStage(t, { vault, reconcile: { firstMs: 60 } })
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'cut', frames: 40 })
    const run = await stage.say(QUESTION)
    const first = stage.work(run.id, 1).catch(() => {})
    while ((await stage.row(run.id)).state !== 'reconciling') await sleep(2)
    vault.lose()
    await first
    t.ok(await attempts(stage, run.id, 2), 'the project goes on')
    t.match(await stage.row(run.id), { state: 'failed', outcome: 'unknown' })
    await stage.story(run.id)
  })

  t.test('a project that cannot be read after a stop', async t => {
    const vault = shakyVault()
    const stage = await setStage(t, { vault })
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'silence', frames: 1 })
    const run = await stage.say(QUESTION)
    const first = stage.work(run.id, 1).catch(() => {})
    await stage.until(run.id, chunk => chunk.type === 'RUN_STARTED')
    while ((await stage.row(run.id)).delivery !== 'acknowledged') await sleep(2)
    vault.lose()
    await stage.runs.stop(stage.alice.userId, run.id)
    await first
    t.ok(await attempts(stage, run.id, 2), 'the project goes on')
    t.match(await stage.row(run.id), { state: 'stopped' })
    await stage.story(run.id)
  })

  t.test('a state that reads differently every time', { timeout: 10_000 }, async t => {
    let different = false
    const stage = await setStage(t, {
      limits: { limitMs: 300 },
      upstream: real => ({
        ...real,
        async state(credential, session) {
          const outcome = await real.state(credential, session)
          if (!different || outcome.kind !== 'ok') return outcome
          return { kind: 'ok', value: { ...outcome.value, fingerprint: randomUUID() } }
        },
      }),
    })
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'cut', frames: 1 })
    const run = await stage.say(TITLE)
    const done = stage.work(run.id)
    await stage.until(run.id, chunk => chunk.type === 'RUN_STARTED')
    different = true
    await done
    t.match(await stage.row(run.id), { state: 'completed', outcome: 'edited' })
  })

  t.test('a deleted project: what has not been sent is not sent any more', async t => {
    const stage = await setStage(t)
    await stage.openSession()
    const run = await stage.say(TITLE)
    await deleteProject(stage.db, stage.projectId)
    await stage.work(run.id)
    t.ok(isTerminal((await stage.row(run.id)).state))
    t.equal(stage.sent(TITLE), 0)
  })

  t.test('a project that is gone with its runs', async t => {
    const stage = await setStage(t)
    const run = await stage.say(TITLE)
    await stage.db.execute(sql`delete from projects where id = ${stage.projectId}`)
    await stage.work(run.id)
  })
})

/** An upstream that keeps its answers to one kind of question to itself until the test has it answer. */
function holdBack(question: 'state' | 'credits') {
  const asked = Promise.withResolvers<void>()
  const answers = Promise.withResolvers<void>()
  return {
    asked: asked.promise,
    answer: answers.resolve,
    upstream(real: UpstreamClient): UpstreamClient {
      const ask = real[question] as (...call: unknown[]) => Promise<never>
      return {
        ...real,
        async [question](...call: unknown[]) {
          asked.resolve()
          await answers.promise
          return ask(...call)
        },
      }
    },
  }
}

t.test('a stop', async t => {
  t.test('during the first look, at this instance or another, ends the run once', async t => {
    for (const elsewhere of [false, true]) {
      const held = holdBack('state')
      const stage = await setStage(t, held)
      await stage.openSession()
      const run = await stage.say(TITLE)
      const done = stage.work(run.id)
      await held.asked
      const runs = elsewhere ? stage.createInstance() : stage.runs
      t.match(await runs.stop(stage.alice.userId, run.id), { state: 'stopped' })
      held.answer()
      await done
      t.strictSame(runStates(await stage.entries(), run.id), ['queued', 'stopped'])
      t.equal(stage.sent(TITLE), 0)
    }
  })

  t.test('is not undone by a refusal that comes after it', async t => {
    const held = holdBack('credits')
    const stage = await setStage(t, held)
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'state', answer: 'body', status: 402, body: '{"code":402}', times: 9 })
    const run = await stage.say(TITLE)
    const done = stage.work(run.id)
    await held.asked
    t.match(await stage.createInstance().stop(stage.alice.userId, run.id), { state: 'stopped' })
    held.answer()
    await done
    t.equal((await stage.row(run.id)).state, 'stopped')
    t.strictSame(runStates(await stage.entries(), run.id), ['queued', 'stopped'])
  })

  t.test('in the middle of an answer', async t => {
    const stage = await setStage(t)
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'silence', frames: 40 })
    const run = await stage.say(QUESTION)
    const done = stage.work(run.id)
    await stage.until(run.id, chunk => chunk.type === 'TEXT_MESSAGE_CONTENT')
    t.match(await stage.runs.stop(stage.alice.userId, run.id), { state: 'stopped' })
    await done
    const chunks = await stage.story(run.id)
    t.match(chunks.at(-1), { type: 'RUN_FINISHED', outcome: { type: 'cancelled' } })
    t.match(await stage.row(run.id), { reply: textOf(chunks).trim(), settled: true })
  })

  t.test('of an edit that is made all the same ends with what became of it', async t => {
    const stage = await setStage(t, { speed: { editMs: 150 }, reconcile: { everyMs: 100 } })
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'silence', frames: 1 })
    const run = await stage.say(TITLE)
    const done = stage.work(run.id)
    while ((await stage.row(run.id)).delivery !== 'acknowledged') await sleep(2)
    await sleep(150)
    t.match(await stage.runs.stop(stage.alice.userId, run.id), { state: 'completed', outcome: 'edited' })
    await done
    const chunks = await stage.story(run.id)
    t.match(chunks.at(-1), { type: 'RUN_FINISHED', outcome: { type: 'success' } })
    t.match(await stage.row(run.id), { reply: /Title added/ })
  })

  t.test('is not over before the state rests: the next message does not meet the stopped one', async t => {
    const stage = await setStage(t, { reconcile: { everyMs: 50 } })
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'silence', frames: 1 })
    const run = await stage.say(QUESTION)
    const done = stage.work(run.id)
    while ((await stage.row(run.id)).delivery !== 'acknowledged') await sleep(2)
    const before = stage.sandbox.journal().length
    await stage.runs.stop(stage.alice.userId, run.id)
    await done
    const reads = stage.sandbox
      .journal()
      .slice(before)
      .filter(({ endpoint }) => endpoint === 'state')
    t.ok(reads.length >= 2, 'two reads that agree')
  })

  t.test('while a cut answer is reconciled', async t => {
    const stage = await setStage(t, { reconcile: { firstMs: 5_000 } })
    await stage.openSession()
    stage.sandbox.faults.add({ on: 'run', answer: 'cut', frames: 1 })
    const run = await stage.say(QUESTION)
    const done = stage.work(run.id)
    while ((await stage.row(run.id)).state !== 'reconciling') await sleep(2)
    t.match(await stage.runs.stop(stage.alice.userId, run.id), { state: 'stopped' })
    await done
    await stage.story(run.id)
  })

  t.test('that comes too late changes nothing', async t => {
    const { row, stage } = await runOnce(t, QUESTION, [])
    t.match(await stage.runs.stop(stage.alice.userId, row.id), { state: 'completed' })
  })
})

t.test('a look at the timeline that comes late does not bring the past back', async t => {
  const held = Promise.withResolvers<void>()
  let hold = false
  const stage = await setStage(t, {
    upstream: real => ({
      ...real,
      async state(credential, session) {
        const outcome = await real.state(credential, session)
        if (hold) {
          hold = false
          await held.promise
        }
        return outcome
      },
    }),
  })
  await stage.openSession()
  await stage.timelines.view(stage.alice.userId, stage.projectId, 'web')
  const run = await stage.say(TITLE)
  hold = true
  const late = stage.timelines.view(stage.alice.userId, stage.projectId, 'web')
  while (hold) await sleep(1)
  await stage.work(run.id)
  held.resolve()
  const { tracks } = await late
  t.equal(tracks.length, 2, 'the answer has the title')
  await stage.story(run.id)
})
