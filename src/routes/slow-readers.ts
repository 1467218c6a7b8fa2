import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'

const PACE = { everyMs: 60_000, bytes: 30_000 }

/**
 * Resets connections that hardly take what has been written to them: a reader of a byte a second holds all the rest.
 * What the kernel has taken for such a reader shows nowhere, but an idle connection of which the end was announced is
 * closed by a client that has read so far.
 */
export function dropSlowReaders(app: FastifyInstance, { everyMs, bytes } = PACE) {
  const open = new Set<Socket>()
  /** What those that were behind at the last look had taken by then. */
  const taken = new WeakMap<Socket, number>()

  app.server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  app.server.on('timeout', (socket: Socket) => socket.end())
  // It could not be answered; whoever sent it sees that the connection ended before, and may send it again.
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    if (!raw.socket.writableEnded) done()
  })

  const timer = setInterval(() => {
    for (const socket of open) {
      const before = taken.get(socket)
      const now = socket.bytesWritten - socket.writableLength
      if (socket.writableLength === 0 && !socket.writableEnded) taken.delete(socket)
      else if (before !== undefined && now - before < bytes) socket.resetAndDestroy()
      else taken.set(socket, now)
    }
  }, everyMs).unref()
  app.addHook('onClose', async () => clearInterval(timer))
}
