/** A plain bridge: reads the upstream's stream and sends each event to each subscriber with `ws`. Nothing is stored. */
import { createServer } from 'node:http'
import { type WebSocket, WebSocketServer } from 'ws'
import { readStream } from './read-stream.ts'

const projects = new Map<string, Set<WebSocket>>()
const server = createServer(async (req, res) => {
  const id = new URL(req.url!, 'http://bridge').searchParams.get('projectId')!
  res.writeHead(202).end()
  let seq = 0
  for await (const delta of readStream(`${process.env.NEMO_API_URL}/stream`)) {
    seq++
    const event = {
      id: `${id}:${seq}`,
      seq,
      projectId: id,
      at: new Date().toISOString(),
      chunk: { type: 'TEXT_MESSAGE_CONTENT', messageId: id, delta },
    }
    const text = JSON.stringify(event)
    for (const socket of projects.get(id) ?? []) socket.send(text)
  }
})
const sockets = new WebSocketServer({ server, perMessageDeflate: false })
sockets.on('connection', (socket, req) => {
  const id = new URL(req.url!, 'http://bridge').searchParams.get('projectId')!
  const readers = projects.get(id) ?? new Set()
  projects.set(id, readers.add(socket))
  socket.on('close', () => readers.delete(socket))
  socket.send('{"type":"subscribed"}')
})
server.listen(0, '127.0.0.1', () =>
  console.log(`Server listening at http://127.0.0.1:${(server.address() as { port: number }).port}`),
)
