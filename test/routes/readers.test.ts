import { connect, type Socket } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import { logWriter, testApp } from '../helpers/app.ts'
import { type Client, follow, signIn } from '../helpers/client.ts'
import { query } from '../helpers/cluster.ts'
import { openLive } from '../helpers/frames.ts'

const { url, database } = await testApp(t)
const write = await logWriter(t, database)

/** Asks for a project's event stream; the answer is read by whoever wants it. */
async function stream(t: Test, client: Client, projectId: string, method = 'GET') {
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const headers = { authorization: `Bearer ${client.token}`, accept: 'text/event-stream' }
  return fetch(`${url}/v1/projects/${projectId}/events`, { method, headers, signal: stop.signal })
}

t.test('signing out ends the event streams of that session, and no other', async t => {
  const [alice, bob] = await Promise.all([signIn(url), signIn(url)])
  const [hers, his] = await Promise.all([alice.project(), bob.project()])
  const [leaving, staying] = await Promise.all([stream(t, alice, hers), stream(t, bob, his)])
  const since = Date.now()
  await alice.remove('/v1/auth/session')
  await leaving.text().catch(() => 'cut')
  t.ok(Date.now() - since < 5_000)
  t.equal((await stream(t, alice, hers)).status, 401)

  await write(his, 1)
  let text = ''
  for await (const bytes of staying.body!) {
    text += Buffer.from(bytes)
    if (text.includes('"seq":1')) break
  }
  t.match(text, /^data: .*"seq":1,/m)
})

t.test('who leaves while the position is looked up gives back the place', async t => {
  const client = await signIn(url)
  const projectId = await client.project()
  const lock = new pg.Client({ connectionString: database })
  await lock.connect()
  await lock.query('begin')
  // What the readers ask for now is answered when this transaction ends.
  await lock.query('lock table projects in access exclusive mode')
  const waiting = async () => {
    // A transaction sees the activity of its first look, unless told otherwise.
    await lock.query('select pg_stat_clear_snapshot()')
    const { rows } = await lock.query(
      `select count(*)::int as n from pg_stat_activity
       where datname = current_database() and wait_event_type = 'Lock'`,
    )
    return rows[0].n as number
  }
  const { hostname, port } = new URL(url)
  const sockets: Socket[] = []
  // One after the other: those who come together are looked up together.
  while (sockets.length < 10) {
    const socket = connect(Number(port), hostname)
    socket.write(
      `GET /v1/projects/${projectId}/events HTTP/1.1\r\nHost: gateway\r\nAccept: text/event-stream\r\nAuthorization: Bearer ${client.token}\r\n\r\n`,
    )
    sockets.push(socket)
    while ((await waiting()) < sockets.length);
  }
  for (const socket of sockets) socket.destroy()
  await lock.query('commit')
  await lock.end()

  const readers = await Promise.all(Array.from({ length: 20 }, () => stream(t, client, projectId)))
  t.strictSame(new Set(readers.map(({ status }) => status)), new Set([200]))
})

t.test('HEAD of a stream is answered and takes no place', async t => {
  const client = await signIn(url)
  const projectId = await client.project()
  for (let i = 0; i < 21; i++) t.equal((await stream(t, client, projectId, 'HEAD')).status, 200)
})

t.test('who cannot be looked up is told to come back', async t => {
  const client = await signIn(url)
  const projectId = await client.project()
  await query(database, 'alter table client_sessions rename to away')
  const byHeader = openLive(t, url, { headers: { authorization: `Bearer ${client.token}` } })
  const byFrame = openLive(t, url)
  await byFrame.send({ type: 'hello', token: client.token })
  t.strictSame(await Promise.all([byHeader.closed, byFrame.closed]), [1012, 1012], 'not 4500 and above')
  for (const { frames } of [byHeader, byFrame]) t.match(frames, [{ type: 'error', problem: { status: 500 } }])
  await query(database, 'alter table away rename to client_sessions')
  await t.resolves(follow(t, client, projectId))
})
