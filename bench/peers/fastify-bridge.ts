/** The bridge as it is usually written: Fastify, its WebSocket plugin, and an INSERT for each event before it is sent. */
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import pg from 'pg'
import type { WebSocket } from 'ws'
import { readStream } from './read-stream.ts'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 })
await pool.query(
  'create table if not exists bridge_events (project_id text, seq bigint, at timestamptz default now(), chunk jsonb, primary key (project_id, seq))',
)
const projects = new Map<string, Set<WebSocket>>()
const app = Fastify()
await app.register(websocket)

app.post<{ Querystring: { projectId: string } }>('/run', async (request, reply) => {
  const id = request.query.projectId
  relay(id)
  return reply.code(202).send()
})

async function relay(id: string) {
  const { rows } = await pool.query(
    'select coalesce(max(seq), 0) as last from bridge_events where project_id = $1',
    [id],
  )
  let seq = Number(rows[0].last)
  for await (const delta of readStream(`${process.env.NEMO_API_URL}/stream`)) {
    seq++
    const chunk = { type: 'TEXT_MESSAGE_CONTENT', messageId: id, delta }
    const stored = await pool.query(
      'insert into bridge_events (project_id, seq, chunk) values ($1, $2, $3) returning at',
      [id, seq, chunk],
    )
    const { at } = stored.rows[0]
    for (const socket of projects.get(id) ?? [])
      socket.send(JSON.stringify({ id: `${id}:${seq}`, seq, projectId: id, at, chunk }))
  }
}

app.get<{ Querystring: { projectId: string } }>('/live', { websocket: true }, (socket, request) => {
  const id = request.query.projectId
  const readers = projects.get(id) ?? new Set()
  projects.set(id, readers.add(socket))
  socket.on('close', () => readers.delete(socket))
  socket.send('{"type":"subscribed"}')
})

console.log(`Server listening at ${await app.listen({ host: '127.0.0.1', port: 0 })}`)
