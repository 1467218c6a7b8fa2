import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import t, { type Test } from 'tap'
import { DatabaseUnreachableError, waitForDatabase } from '../../src/db/wait.ts'
import { testDatabaseUrl } from '../helpers/database.ts'

async function listen(t: Test, server: Server, port = 0): Promise<number> {
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as { port: number }).port
}

async function freePort(t: Test): Promise<number> {
  const server = createServer()
  const port = await listen(t, server)
  server.close()
  await once(server, 'close')
  return port
}

t.test('a database that answers', async t => {
  await t.resolves(waitForDatabase(await testDatabaseUrl(t)))
})

t.test('a database that comes up a moment later', async t => {
  const url = new URL(await testDatabaseUrl(t))
  const target = Number(url.port)
  url.port = String(await freePort(t))
  const waiting = waitForDatabase(url.href)
  const relay = createServer(socket => {
    const behind = connect(target, '127.0.0.1')
    for (const [from, to] of [
      [socket, behind],
      [behind, socket],
    ] as const)
      from
        .on('error', () => to.destroy())
        .on('close', () => to.destroy())
        .pipe(to)
  })
  // The first attempt finds nobody.
  await new Promise(resolve => setTimeout(resolve, 100))
  await listen(t, relay, Number(url.port))
  await t.resolves(waiting)
})

t.test('a database that does not come: the reason, and no password', async t => {
  const nobody = `postgres://gate:canary@127.0.0.1:${await freePort(t)}/reelgate`
  const known = await testDatabaseUrl(t)
  const wrongPassword = new URL(known)
  wrongPassword.password = 'canary'
  const wrongName = new URL(known)
  wrongName.pathname = '/canary'
  const stranger = await listen(
    t,
    createServer(socket => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
  )
  const cases = [
    [nobody, 'ECONNREFUSED'],
    [wrongPassword.href, '28P01'],
    [wrongName.href, '3D000'],
    [`postgres://gate:canary@127.0.0.1:${stranger}/reelgate`, /./],
    ['postgres://gate:canary@nowhere.invalid/reelgate', /ENOTFOUND|EAI_AGAIN/],
  ] as const
  for (const [url, reason] of cases) {
    const error = await waitForDatabase(url, -1).catch(error => error)
    t.ok(error instanceof DatabaseUnreachableError, String(reason))
    t.match(error.message, reason)
    t.match(error.message, /Check DATABASE_URL/)
    t.notMatch(`${error.stack}${JSON.stringify(error)}`, 'canary')
  }
})
