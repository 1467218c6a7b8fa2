/** A backend for the upload benchmark: the sandbox, but the bytes of a file are counted and dropped. */
import { createServer } from 'node:http'
import { createSandbox } from '../../sandbox/server.ts'

const sandbox = await createSandbox({ speed: { heartbeatMs: 1_000 } })
const file = {
  filename: 'film.mp4',
  file_type: 'video',
  cdn_url: 'https://cdn.invalid/film.mp4',
  duration: 10,
}
const accepted = JSON.stringify({ code: 0, data: { files: [file], session_state_applied: true } })

const server = createServer(async (req, res) => {
  if (req.url?.includes('/upload-video/')) {
    req.resume().once('end', () => {
      res.writeHead(200, { 'content-type': 'application/json' }).end(accepted)
    })
    return
  }
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk)
  const { host, connection, 'transfer-encoding': _, ...headers } = req.headers as Record<string, string>
  const body = chunks.length > 0 ? Buffer.concat(chunks) : null
  const answer = await fetch(sandbox.url + req.url, { method: req.method ?? 'GET', headers, body })
  res.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text())
})
server.requestTimeout = 0
server.listen(0, '127.0.0.1', () => {
  const address = server.address() as { port: number }
  console.log(`Server listening at http://127.0.0.1:${address.port}`)
})
