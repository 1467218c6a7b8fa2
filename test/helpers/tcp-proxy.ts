import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** Stands between a client and a server, and fails as networks do. */
export async function tcpProxy(t: Test, target: string) {
  const { hostname, port } = new URL(target)
  const pairs = new Set<{ client: Socket; server: Socket }>()
  let silent = false
  let swallowing = false
  const listener = createServer(client => {
    const server = connect(Number(port), hostname)
    const pair = { client, server }
    pairs.add(pair)
    client.on('data', bytes => silent || server.write(bytes))
    server.on('data', bytes => silent || swallowing || client.write(bytes))
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const)
      one
        .on('error', () => {})
        .on('close', () => {
          other.destroy()
          pairs.delete(pair)
        })
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const cut = () => {
    for (const { client } of pairs) client.destroy()
  }
  t.teardown(() => {
    listener.close()
    cut()
  })
  const url = new URL(target)
  url.port = String((listener.address() as { port: number }).port)
  return {
    url: url.href,
    /** Ends all connections. */
    cut,
    /** From now on nothing gets through, and nobody is told. */
    blackHole() {
      silent = true
    },
    restore() {
      silent = false
    },
    /** Sends bytes to the server on every connection, as a pooler might; the client does not see the answer. */
    async inject(bytes: Buffer) {
      swallowing = true
      await Promise.all(
        [...pairs].map(async ({ server }) => {
          server.write(bytes)
          await once(server, 'data')
        }),
      )
      swallowing = false
    },
  }
}

/** A statement as the simple query message of the PostgreSQL protocol. */
export function simpleQuery(sql: string): Buffer {
  const message = Buffer.from(`Q....${sql}\0`)
  message.writeInt32BE(message.length - 1, 1)
  return message
}
