import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { createSandbox } from '../../sandbox/server.ts'
import { draftIn, signIn, speaker } from './helpers.ts'

const program = new URL('../../sandbox/server.ts', import.meta.url).pathname

async function start(dataDir: string) {
  const child = spawn(process.execPath, [program], {
    env: { ...process.env, SANDBOX_DATA: dataDir, SANDBOX_PACE: '10' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = await once(child.stdout, 'data')
  return { child, url: /http:\S+/.exec(String(line))![0] }
}

/** Until the client has noticed that its idle sockets ended with the process before. */
async function reachable(url: string) {
  for (;;) {
    const answered = await fetch(`${url}/__sandbox/faults`).then(
      () => true,
      () => false,
    )
    if (answered) return
  }
}

t.test('what was begun takes effect although the process was killed', async t => {
  const dataDir = t.testdir()
  const first = await start(dataDir)
  const alice = await signIn(first.url)
  const stream = await alice.run('generate a city timelapse')
  const exited = once(first.child, 'exit')
  first.child.kill('SIGKILL')
  await t.rejects(stream.text())
  await exited

  const sandbox = await createSandbox({ dataDir })
  t.teardown(() => sandbox.close())
  t.equal(sandbox.url, first.url, 'the same port')
  await reachable(sandbox.url)
  while ((await alice.state()).draft.t.length < 3) await new Promise(resolve => setTimeout(resolve, 10))
  t.match(await (await alice.get('/api/credits/balance/simple')).json(), { data: { total: 80, frozen: 0 } })
  const runs = sandbox.journal().filter(entry => entry.endpoint === 'run')
  t.equal(runs.length, 1)
  t.match(runs[0], {
    text: 'generate a city timelapse',
    accepted: true,
    answer: 'stream',
    userId: alice.userId,
  })
})

t.test('state, renders and the journal survive', async t => {
  const dataDir = t.testdir()
  const before = await createSandbox({ dataDir, speed: { editMs: 1, chunkMs: 0, renderMs: 1 } })
  const alice = await signIn(before.url)
  await (await alice.run('add a title "One"')).text()
  const draft = draftIn((await alice.state()).text)
  await alice.render('r1')
  const journal = before.journal()
  await before.close()

  const after = await createSandbox({ dataDir })
  t.teardown(() => after.close())
  await reachable(after.url)
  t.strictSame(after.journal(), journal)
  t.equal(draftIn((await alice.state()).text), draft)
  await alice.render('r2', draft)
  t.match(after.journal().at(-1), { renderId: 'r2', draftMatches: true })
  t.equal((await fetch(`${after.url}/files/r1.mp4`)).status, 200)
  t.doesNotThrow(() => JSON.parse(readFileSync(`${dataDir}/sandbox.json`, 'utf8')))
})

t.test('a port that is taken meanwhile is given up', async t => {
  const dataDir = t.testdir()
  const before = await createSandbox({ dataDir })
  await before.close()
  const squatter = await createSandbox({ port: Number(new URL(before.url).port) })
  t.teardown(() => squatter.close())
  const after = await createSandbox({ dataDir })
  t.teardown(() => after.close())
  t.not(after.url, before.url)
  await t.rejects(createSandbox({ port: Number(new URL(squatter.url).port) }), { code: 'EADDRINUSE' })
})

t.test('a registered account cannot be minted again', async t => {
  const sandbox = await createSandbox()
  t.teardown(() => sandbox.close())
  const who = sandbox.state.issueToken(300)
  const linked = await speaker(sandbox.url, who)
  t.match(who.userId, /^user_/)
  t.match(await (await linked.get('/api/credits/balance/simple')).json(), { data: { total: 300 } })
})

t.test('another token of an account finds what the one before has made, which is dead', async t => {
  const sandbox = await createSandbox()
  t.teardown(() => sandbox.close())
  const who = sandbox.state.issueToken(300)
  const before = await speaker(sandbox.url, who)
  const door = (body: object) =>
    fetch(`${sandbox.url}/__sandbox/tokens`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  const issued = (await (await door({ userId: who.userId })).json()) as { token: string; userId: string }
  const now = await speaker(sandbox.url, issued)
  t.equal(issued.userId, who.userId)
  const made = await now.get(`/api/state/nemo_agent/me/${before.sessionId}/latest`)
  t.match(await made.json(), { code: 0 })
  t.match(await (await before.get('/api/credits/balance/simple')).json(), { code: 1001 })
  t.equal((await door({ userId: 'nobody' })).status, 400)
})
