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
const [SMALL_MB, LARGE_MB] = [20, 120]
// Were the file held, all that it is larger by would be there.
const GROWTH_MIB = (LARGE_MB - SMALL_MB) / 2

t.test('a file six times as large takes no more memory', { skip: process.platform !== 'linux' }, async t => {
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

  async function peakOf(megabytes: number): Promise<number> {
    await writeFile(`/proc/${pid}/clear_refs`, '5')
    t.equal(await send(megabytes * 1_000_000), 201)
    return mib('VmHWM')
  }

  // What the first upload costs is not what its length costs.
  for (let i = 0; i < 3; i++) await peakOf(SMALL_MB)
  const small = await peakOf(SMALL_MB)
  const large = await peakOf(LARGE_MB)
  t.ok(
    large - small < GROWTH_MIB,
    `${small.toFixed(0)} MiB at the small one's peak, ${large.toFixed(0)} at the large one's`,
  )
})
