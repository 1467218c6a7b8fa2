import t from 'tap'
import { Agent } from 'undici'
import { createDialer } from '../../../src/services/upstream/dial.ts'
import { alice, createClient, startJournal } from './origin.ts'

const MP4 = { 'content-type': 'video/mp4' }

t.test('a file on a private address is not fetched, be it named, numbered or redirected to', async t => {
  const inner = await startJournal(t, (_, response) => response.writeHead(200, MP4).end('secret'))
  const { port } = new URL(inner.url)
  const client = createClient(t, 'https://upstream.invalid')
  for (const host of [
    '127.0.0.1',
    'localhost',
    '2130706433',
    '0x7f.1',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '0.0.0.0',
  ]) {
    const url = `http://${host}:${port}/r.mp4`
    const request = {
      id: 'r1',
      url,
      range: null,
      ifRange: null,
      ifNoneMatch: null,
      signal: new AbortController().signal,
    }
    const outcome = await client.openFile(alice, request)
    t.same(outcome, { kind: 'transient', delivered: 'no', cause: 'unavailable' }, host)
  }
  t.equal(inner.journal.length, 0)
  t.equal(inner.connections(), 0)
})

t.test(
  "the upstream's own host is reached wherever it is, and a development one serves its files",
  async t => {
    const origin = await startJournal(t, (_, response) => response.writeHead(200, MP4).end('video'))
    const { port } = new URL(origin.url)
    for (const apiUrl of ['https://127.0.0.1', 'http://sandbox']) {
      const agent = new Agent({ connect: createDialer({ apiUrl, timeoutMs: 1000 }) })
      t.teardown(() => agent.close())
      const { body } = await agent.request({ origin: `http://127.0.0.1:${port}`, path: '/', method: 'GET' })
      t.equal(await body.text(), 'video', apiUrl)
    }
  },
)
