import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import t from 'tap'
import { signIn } from '../../helpers/client.ts'
import { testDatabaseUrl } from '../../helpers/database.ts'
import { startGateway } from '../../helpers/gateway.ts'
import { startSandbox } from '../../sandbox/helpers.ts'
import { clip } from './stage.ts'

const CHUNK = Buffer.alloc(1 << 18, 7)
// 500 MB take a minute of CPU where sums are made of them; `UPLOAD_TEST_MB=500` does it all the same.
const MB = Number(process.env.UPLOAD_TEST_MB ?? 200)
// What the garbage collector lets lie about is less than half of it.
const GROWTH_MIB = 90

t.test(`${MB} MB on the wire, and memory stays flat`, { skip: process.platform !== 'linux' }, async t => {
  const sandbox = await startSandbox(t)
  const gateway = await startGateway(t, {
    DATABASE_URL: await testDatabaseUrl(t),
    NEMO_API_URL: sandbox.url,
  })
  const client = await signIn(gateway.url)
  const projectId = await client.projectWithClip()
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
      if (!outgoing.write(CHUNK)) await once(outgoing, 'drain')
    outgoing.end('\r\n--b--\r\n')
    const [response] = await once(outgoing, 'response')
    response.resume()
    return response.statusCode
  }

  // What the first upload costs is not what its length costs.
  t.equal(await send(10_000_000), 201)
  await writeFile(`/proc/${pid}/clear_refs`, '5')
  const before = await mib('VmRSS')
  t.equal(await send(MB * 1_000_000), 201)
  const peak = await mib('VmHWM')
  t.ok(peak - before < GROWTH_MIB, `${before.toFixed(0)} MiB before, ${peak.toFixed(0)} at the peak`)
})
