import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import type { Client } from './client.ts'

const TUS = { 'tus-resumable': '1.0.0' }
const BYTES = { 'content-type': 'application/offset+octet-stream' }

export const metadata = (filename: string, filetype = 'video/mp4') =>
  `filename ${Buffer.from(filename).toString('base64')},filetype ${Buffer.from(filetype).toString('base64')}`

/** tus by hand, where a test wants to see each answer. */
export function tusClient(client: Client, projectId: string) {
  const path = `/v1/projects/${projectId}/uploads/resumable`
  const call = (method: string, to: string, headers: Record<string, string> = {}, body?: Uint8Array) =>
    fetch(client.url + to, {
      method,
      headers: { authorization: `Bearer ${client.token}`, ...TUS, ...headers },
      ...(body && { body }),
    })
  return {
    path,
    call,
    create: (size: number, filename = 'clip.mp4', more: Record<string, string> = {}) =>
      call('POST', path, {
        'upload-length': String(size),
        'upload-metadata': metadata(filename),
        ...more,
      }),
    head: (to: string) => call('HEAD', to),
    patch: (to: string, offset: number, body: Uint8Array) =>
      call('PATCH', to, { ...BYTES, 'upload-offset': String(offset) }, body),
    remove: (to: string) => call('DELETE', to),
    /** A PATCH whose body the test writes itself. */
    open(to: string, offset: number, length?: number) {
      const { hostname, port } = new URL(client.url)
      const outgoing = httpRequest({
        hostname,
        port,
        path: to,
        method: 'PATCH',
        headers: {
          authorization: `Bearer ${client.token}`,
          ...TUS,
          ...BYTES,
          'upload-offset': String(offset),
          ...(length !== undefined && { 'content-length': String(length) }),
        },
      })
      outgoing.on('error', () => {})
      const answer = once(outgoing, 'response').then(([response]) => {
        response.resume()
        return response.statusCode as number
      })
      answer.catch(() => {})
      return { outgoing, answer }
    },
  }
}

export const idOf = (location: string) => location.split('/').at(-1)!
