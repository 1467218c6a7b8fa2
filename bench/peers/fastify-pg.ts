/** What one would write by hand: Fastify and pg, the session looked up by its hash, the project by its id. */
import { createHash } from 'node:crypto'
import Fastify from 'fastify'
import pg from 'pg'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 })
const app = Fastify()

app.get<{ Params: { id: string } }>('/v1/projects/:id', async (request, reply) => {
  const token = request.headers.authorization?.slice('Bearer '.length) ?? ''
  const hash = createHash('sha256').update(token).digest()
  const sessions = await pool.query(
    'select user_id from client_sessions where token_hash = $1 and expires_at > now()',
    [hash],
  )
  if (sessions.rows.length === 0) return reply.code(401).send({ error: 'unauthenticated' })
  const { rows } = await pool.query('select * from projects where id = $1 and user_id = $2', [
    request.params.id,
    sessions.rows[0].user_id,
  ])
  if (rows.length === 0) return reply.code(404).send({ error: 'not found' })
  const { id, name, language, summary, exportable, revision, created_at, last_activity_at } = rows[0]
  return {
    id,
    name,
    language,
    summary,
    exportable,
    revision,
    createdAt: created_at,
    lastActivityAt: last_activity_at,
  }
})

console.log(`Server listening at ${await app.listen({ host: '127.0.0.1', port: 0 })}`)
