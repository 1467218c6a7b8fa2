/**
 * The bridge as it is usually written by those who want no gaps: each event is inserted before it is sent, and whoever
 * comes back is looked up, and then sent what a SELECT finds after its last event.
 */
import { createHash } from 'node:crypto'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import pg from 'pg'
import { readStream } from './read-stream.ts'

interface Event {
  id: string
  seq: number
  chunk: object
}

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 })
const projects = new Map<string, Set<(event: Event) => void>>()
const app = Fastify()
await app.register(websocket)

app.post<{ Querystring: { projectId: string } }>('/run', async (request, reply) => {
  relay(request.query.projectId)
  return reply.code(202).send()
})

async function relay(id: string) {
  let seq = 0
  for await (const delta of readStream(`${process.env.NEMO_API_URL}/stream`)) {
    const event = {
      id: `${id}:${++seq}`,
      seq,
      chunk: { type: 'TEXT_MESSAGE_CONTENT', messageId: id, delta },
    }
    await pool.query('insert into bridge_events (project_id, seq, chunk) values ($1, $2, $3)', [
      id,
      seq,
      event.chunk,
    ])
    for (const send of projects.get(id) ?? []) send(event)
  }
}

app.get<{ Querystring: { projectId: string; after?: string } }>(
  '/live',
  { websocket: true },
  async (socket, request) => {
    const { projectId, after } = request.query
    const readers = projects.get(projectId) ?? new Set()
    projects.set(projectId, readers)
    let last = Number(after?.split(':')[1] ?? 0)
    // What is told while the database is asked comes after what it answers.
    let held: Event[] | null = []
    const send = (event: Event) => {
      if (held) return void held.push(event)
      if (event.seq <= last) return
      last = event.seq
      socket.send(JSON.stringify({ projectId, ...event }))
    }
    readers.add(send)
    socket.on('close', () => readers.delete(send))
    socket.on('error', () => {})

    const token = request.headers.authorization?.slice('Bearer '.length) ?? ''
    const { rowCount } = await pool.query('select from bridge_sessions where token_hash = $1', [
      createHash('sha256').update(token).digest(),
    ])
    if (!rowCount) return socket.close(4503)
    socket.send('{"type":"subscribed"}')
    const { rows } = await pool.query(
      'select seq, chunk from bridge_events where project_id = $1 and seq > $2 order by seq',
      [projectId, last],
    )
    const missed: Event[] = rows.map(({ seq, chunk }) => ({
      id: `${projectId}:${seq}`,
      seq: Number(seq),
      chunk,
    }))
    const events = [...missed, ...held]
    held = null
    for (const event of events) send(event)
  },
)

console.log(`Server listening at ${await app.listen({ host: '127.0.0.1', port: 0 })}`)
