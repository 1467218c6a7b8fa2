import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { listen } from '../../src/db/listen.ts'
import { query } from '../helpers/cluster.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { simpleQuery, tcpProxy } from '../helpers/tcp-proxy.ts'

/** What a listener reports, in order, and the wait for the next report of a kind. */
function listenTo(t: Test, url: string, channels: string[], onNotification = (_: string) => {}, times = {}) {
  const reports: string[] = []
  let wake = () => {}
  const report = (text: string) => {
    reports.push(text)
    wake()
  }
  const listener = listen(
    url,
    channels,
    {
      notification(channel, payload) {
        report(`${channel} ${payload}`)
        onNotification(payload)
      },
      listening: () => report('listening'),
      error: error => report(`error ${(error as Error).message}`),
    },
    times,
  )
  t.teardown(() => listener.close())
  return {
    listener,
    reports,
    async until(pattern: RegExp, count = 1) {
      while (reports.filter(text => pattern.test(text)).length < count)
        await new Promise<void>(resolve => {
          wake = resolve
        })
    },
  }
}

const END_LISTENERS = `select pg_terminate_backend(pid) from pg_stat_activity
  where application_name = 'reelgate listen' and datname = current_database()`

t.test('what is announced on its channels, and nothing else', async t => {
  const url = await testDatabaseUrl(t)
  const { reports, until, listener } = listenTo(t, url, ['one', 'two'])
  await until(/listening/)
  await query(url, `notify one, 'a'; notify three, 'b'; notify two; notify one, 'c'`)
  await until(/one c/)
  t.strictSame(reports, ['listening', 'one a', 'two ', 'one c'])
  await listener.close()
  await query(url, `notify one, 'd'`)
  t.equal(reports.length, 4)
})

t.test('a connection that the server ends is made anew, and says so', async t => {
  const url = await testDatabaseUrl(t)
  const { reports, until } = listenTo(t, url, ['one'])
  await until(/listening/)
  await query(url, END_LISTENERS)
  await until(/listening/, 2)
  t.match(reports[1], /^error /)
  await query(url, `notify one, 'a'`)
  await until(/one a/)
})

t.test('a handler that throws is reported; the next announcement comes', async t => {
  const url = await testDatabaseUrl(t)
  const { reports, until } = listenTo(t, url, ['one'], payload => JSON.parse(payload))
  await until(/listening/)
  await query(url, `notify one, 'no json'; notify one, '[]'`)
  await until(/one \[\]/)
  t.match(reports, ['listening', 'one no json', /^error .*JSON/, 'one []'])
})

const QUICK = { heartbeatMs: 100, answerMs: 1_500 }

t.test('a connection that goes nowhere is noticed and made anew', async t => {
  const url = await testDatabaseUrl(t)
  const proxy = await tcpProxy(t, url)
  const { reports, until } = listenTo(t, proxy.url, ['one'], undefined, QUICK)
  await until(/listening/)
  proxy.blackHole()
  await until(/^error/)
  proxy.restore()
  await until(/listening/, 2)
  await query(url, `notify one, 'a'`)
  await until(/one a/)
  t.notMatch(reports.join(), /beat/, 'what it says to itself is nobody’s business')
})

t.test('a connection that no longer listens, though it answers', async t => {
  const url = await testDatabaseUrl(t)
  const proxy = await tcpProxy(t, url)
  const { reports, until } = listenTo(t, proxy.url, ['one'], undefined, {
    heartbeatMs: 1_000,
    answerMs: 1_500,
  })
  await until(/listening/)
  await proxy.inject(simpleQuery('unlisten *'))
  await until(/listening/, 2)
  t.match(reports[1], /^error Nothing is heard on one/)
  await query(url, `notify one, 'a'`)
  await until(/one a/)
})

t.test('announcements of two listeners reach each other', async t => {
  const url = await testDatabaseUrl(t)
  const [a, b] = [listenTo(t, url, ['one']), listenTo(t, url, ['one'])]
  await Promise.all([a.until(/listening/), b.until(/listening/)])
  a.listener.notify('one', 'from a')
  await b.until(/one from a/)
})

t.test('while the database is away it goes on trying, and closing ends that at once', async t => {
  const target = new URL(await testDatabaseUrl(t))
  const sockets = new Set<Socket>()
  let up = false
  const relay = createServer(socket => {
    if (!up) return socket.destroy()
    const behind = connect(Number(target.port), '127.0.0.1')
    socket.on('error', () => {}).on('close', () => behind.destroy())
    behind.on('error', () => {}).on('close', () => socket.destroy())
    socket.pipe(behind).pipe(socket)
    sockets.add(socket)
  }).listen(0, '127.0.0.1')
  await once(relay, 'listening')
  t.teardown(() => relay.close())
  const url = new URL(target)
  url.port = String((relay.address() as { port: number }).port)

  const { reports, until, listener } = listenTo(t, url.href, ['one'])
  await until(/^error/)
  up = true
  await until(/listening/)
  up = false
  for (const socket of sockets) socket.destroy()
  await until(/^error/, 2)
  const heard = reports.length
  const before = performance.now()
  await listener.close()
  t.ok(performance.now() - before < 400, 'it does not sit out the pause')
  t.equal(reports.length, heard)
  t.notMatch(reports.join(), target.password || 'no password', 'the address stays unsaid')
})

t.test('announcements that come at once all leave, and pg has nothing to warn of', async t => {
  const url = await testDatabaseUrl(t)
  const warnings: Error[] = []
  const warned = (warning: Error) => warnings.push(warning)
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  const { reports, until, listener } = listenTo(t, url, ['one'])
  await until(/listening/)
  for (let n = 0; n < 20; n++) listener.notify('one', String(n))
  await until(/one/, 20)
  t.strictSame(
    reports.slice(1),
    Array.from({ length: 20 }, (_, n) => `one ${n}`),
  )
  t.strictSame(warnings, [], 'a later pg refuses what this one warns of')
})
