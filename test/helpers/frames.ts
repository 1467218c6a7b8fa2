import type { Test } from 'tap'
import { type ClientOptions, WebSocket } from 'ws'
import type { Json } from './client.ts'
import { until } from './gateway.ts'

/** A live socket whose frames a test sends and sees one by one. */
export function openLive(
  t: Test,
  url: string,
  { query = '', ...options }: ClientOptions & { query?: string } = {},
) {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/live${query}`, 'reelgate.v1', options)
  t.teardown(() => socket.terminate())
  const frames: Json[] = []
  socket.on('error', () => {})
  socket.on('message', data => frames.push(JSON.parse(String(data))))
  const opened = new Promise<void>(resolve => socket.on('open', resolve))
  const closed = new Promise<number>(resolve => socket.on('close', resolve))
  return {
    socket,
    frames,
    opened,
    closed,
    entries: () => frames.filter(frame => !frame.type),
    next: (wanted: (frame: Json) => unknown): Promise<Json> => until(async () => frames.find(wanted), 5_000),
    async send(...sent: (object | string | Buffer)[]) {
      await opened
      for (const frame of sent)
        socket.send(typeof frame === 'string' || Buffer.isBuffer(frame) ? frame : JSON.stringify(frame))
    },
  }
}

export const isType = (type: string, projectId?: string) => (frame: Json) =>
  frame.type === type && (!projectId || frame.projectId === projectId)
