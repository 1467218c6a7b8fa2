import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { signIn } from '../../helpers/client.ts'
import { testDatabaseUrl } from '../../helpers/database.ts'
import { startGateway } from '../../helpers/gateway.ts'
import { startSandbox } from '../../sandbox/helpers.ts'
import { clip } from './stage.ts'

const CHUNK = Buffer.alloc(1 << 18, 7)
const [SMALL_MB, LARGE_MB] = [20, 500]
// A collection that comes late; of a file that is held there would be seven times as much.
const GROWTH_MIB = 64

/** The sandbox, but the bytes of a file are dropped: to hash them all would cost more than everything else here. */
async function startSink(t: Test): Promise<string> {
  const sandbox = await startSandbox(t)
  const file = { filename: 'a.mp4', file_type: 'video', cdn_url: 'https://cdn.invalid/a.mp4', duration: 10 }
  const accepted = JSON.stringify({ code: 0, data: { files: [file], session_state_applied: true } })
  const server = createServer((req, res) => {
    const { method, url, headers } = req
    if (url!.startsWith('/api/upload-video/'))
      return void req.resume().once('end', () => {
        res.writeHead(200, { 'content-type': 'application/json' }).end(accepted)
      })
    const onwards = request(sandbox.url + url, { method: method!, headers }, answer => {
      res.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(res)
    })
    req.pipe(onwards)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.test('500 MB take no more memory than 20', { skip: process.platform !== 'linux' }, async t => {
  const gateway = await startGateway(t, {
    DATABASE_URL: await testDatabaseUrl(t),
    NEMO_API_URL: await startSink(t),
  })
  const client = await signIn(gateway.url)
  const projectId = await client.project()
  const { pid } = gateway.process
  const mib = async (field: string) => {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)![1]) / 1024
  }

  async function send(bytes: number): Promise<number> {
    const outgoing = request(`${gateway.url}/v1/projects/${projectId}/uploads`, {
      method: 'POST',
      headers: { authorization: `Bearer ${client.token}`, 'content-type': 'multipart/form-data; boundary=b' },
    })
    outgoing.write(
      '--b\r\ncontent-disposition: form-data; name="file"; filename="a.mp4"\r\ncontent-type: video/mp4\r\n\r\n',
    )
    outgoing.write(clip)
    for (let left = bytes - clip.length; left > 0; left -= CHUNK.length)
      if (!outgoing.write(CHUNK.subarray(0, left))) await once(outgoing, 'drain')
    outgoing.end('\r\n--b--\r\n')
    const [response] = await once(outgoing, 'response')
    response.resume()
    return response.statusCode
  }

  async function peakOf(megabytes: number): Promise<number> {
    await writeFile(`/proc/${pid}/clear_refs`, '5')
    t.equal(await send(megabytes * 1_000_000), 201)
    return mib('VmHWM')
  }

  // What the first upload costs is not what its length costs.
  for (let i = 0; i < 2; i++) await peakOf(SMALL_MB)
  const small = await peakOf(SMALL_MB)
  const large = await peakOf(LARGE_MB)
  t.ok(
    large - small < GROWTH_MIB,
    `${small.toFixed(0)} MiB at the small one's peak, ${large.toFixed(0)} at the large one's`,
  )
})
