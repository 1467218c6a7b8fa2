import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { S3Config } from '../../src/config.ts'
import { contentOf, signatureTrouble } from './s3-signature.ts'

const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'a/secret+of/forty=' }
const region = 'us-east-1'
const SMALLEST_PART = 5 << 20

/** One request as the server heard it. */
export interface S3Request {
  method: string
  key: string
  query: URLSearchParams
  range: string | undefined
}

interface StoredObject {
  bytes: Buffer
  etag: string
  modified: Date
  /** The type and the metadata that the client gave. */
  headers: Map<string, string>
}

interface Multipart {
  key: string
  headers: Map<string, string>
  begun: Date
  parts: Map<number, { bytes: Buffer; etag: string; modified: Date }>
}

/**
 * A bucket over real HTTP, in memory, for what the AWS SDK is used for here: objects, ranges, conditions, multipart
 * uploads, lists. It checks every signature (SigV4) and checksum, and answers as S3 documents; it is not S3.
 */
export async function startS3(t: Test, { pageSize = 1_000 } = {}) {
  const bucket = `bucket-${randomUUID().slice(0, 8)}`
  const objects = new Map<string, StoredObject>()
  const multiparts = new Map<string, Multipart>()
  const requests: S3Request[] = []
  let refused = (_: S3Request): number | null => null

  const server = createServer((request, response) => {
    answer(request, response).catch(error => refuse(response, 500, 'InternalError', String(error)))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const endpoint = `http://127.0.0.1:${port}`
  const config: S3Config = { bucket, region, endpoint, credentials }

  async function answer(request: IncomingMessage, response: ServerResponse) {
    const { method = '', headers } = request
    const url = new URL(request.url ?? '', endpoint)
    const [, of, ...rest] = decodeURIComponent(url.pathname).split('/')
    const heard = { method, key: rest.join('/'), query: url.searchParams, range: headers.range }
    requests.push(heard)
    const sent = await buffer(request)
    const wrong = signatureTrouble(request, url, sent, config)
    if (wrong) return refuse(response, 403, 'SignatureDoesNotMatch', wrong)
    const status = refused(heard)
    if (status) return refuse(response, status, 'Refused', 'as the test wishes')
    if (of !== bucket) return refuse(response, 404, 'NoSuchBucket', 'no such bucket')
    const body = contentOf(headers, sent)
    if (!body) return refuse(response, 400, 'BadDigest', 'the content is not what its checksum says')
    if (heard.key === '') return answerBucket(heard, response, body)
    if (heard.query.has('uploads')) return beginMultipart(heard, response, keptHeaders(headers))
    if (heard.query.has('uploadId')) return answerMultipart(heard, response, body)
    if (method === 'PUT') {
      const { etag } = store(heard.key, body, md5(body), keptHeaders(headers))
      return response.setHeader('etag', etag).end()
    }
    if (method === 'DELETE') {
      objects.delete(heard.key)
      return response.writeHead(204).end()
    }
    return answerObject(heard, response, headers)
  }

  function answerObject({ method, key }: S3Request, response: ServerResponse, asked: IncomingHttpHeaders) {
    const found = objects.get(key)
    if (!found) return refuse(response, 404, 'NoSuchKey', 'no such key')
    const { bytes, etag, headers, modified } = found
    if (asked['if-match'] && asked['if-match'] !== etag)
      return refuse(response, 412, 'PreconditionFailed', 'If-Match')
    response.setHeader('etag', etag).setHeader('last-modified', modified.toUTCString())
    if (asked['if-none-match'] === etag) return response.writeHead(304).end()
    response.setHeaders(headers)
    if (method === 'HEAD') return response.setHeader('content-length', bytes.length).end()
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(asked.range ?? '') ?? []
    if (from === undefined) return response.setHeader('content-length', bytes.length).end(bytes)
    const start = Number(from)
    if (start >= bytes.length) return refuse(response, 416, 'InvalidRange', 'beyond the end')
    const end = Math.min(to ? Number(to) : bytes.length - 1, bytes.length - 1)
    response.setHeader('content-range', `bytes ${start}-${end}/${bytes.length}`)
    return response.writeHead(206, { 'content-length': end - start + 1 }).end(bytes.subarray(start, end + 1))
  }

  function beginMultipart({ key }: S3Request, response: ServerResponse, headers: Map<string, string>) {
    const id = randomUUID()
    multiparts.set(id, { key, headers, begun: new Date(), parts: new Map() })
    return xml(response, 'InitiateMultipartUploadResult', [tag('Key', key), tag('UploadId', id)])
  }

  function answerMultipart({ method, key, query }: S3Request, response: ServerResponse, body: Buffer) {
    const id = query.get('uploadId') ?? ''
    const found = multiparts.get(id)
    if (!found || found.key !== key) return refuse(response, 404, 'NoSuchUpload', 'ended, or never begun')
    if (method === 'PUT') {
      const etag = md5(body)
      found.parts.set(Number(query.get('partNumber')), { bytes: body, etag, modified: new Date() })
      return response.setHeader('etag', etag).end()
    }
    if (method === 'GET') {
      const parts = [...found.parts].sort(([a], [b]) => a - b)
      const list = parts.map(([number, part]) => element('Part', [tag('PartNumber', number), ...facts(part)]))
      return xml(response, 'ListPartsResult', [tag('IsTruncated', false), ...list])
    }
    if (method === 'DELETE') {
      multiparts.delete(id)
      return response.writeHead(204).end()
    }
    return completeMultipart(id, found, response, body.toString())
  }

  function completeMultipart(
    id: string,
    { key, parts, headers }: Multipart,
    response: ServerResponse,
    wanted: string,
  ) {
    const numbers = valuesOf('PartNumber', wanted).map(Number)
    const etags = valuesOf('ETag', wanted)
    if (numbers.length === 0) return refuse(response, 400, 'MalformedXML', 'no parts')
    if (numbers.some((number, i) => parts.get(number)?.etag !== etags[i]))
      return refuse(response, 400, 'InvalidPart', 'a part is not there')
    const pieces = numbers.map(number => parts.get(number)!.bytes)
    if (pieces.slice(0, -1).some(piece => piece.length < SMALLEST_PART))
      return refuse(response, 400, 'EntityTooSmall', 'a part is too small')
    const whole = Buffer.concat(pieces)
    store(key, whole, md5(whole).replace(/"$/, `-${pieces.length}"`), headers)
    multiparts.delete(id)
    return xml(response, 'CompleteMultipartUploadResult', [tag('Key', key)])
  }

  function answerBucket({ method, query }: S3Request, response: ServerResponse, body: Buffer) {
    if (method === 'POST' && query.has('delete')) {
      for (const key of valuesOf('Key', body.toString())) objects.delete(key)
      return xml(response, 'DeleteResult', [])
    }
    const prefix = query.get('prefix') ?? ''
    if (query.has('uploads')) {
      const list = [...multiparts]
        .filter(([, { key }]) => key.startsWith(prefix))
        .map(([id, { key, begun }]) =>
          element('Upload', [tag('Key', key), tag('UploadId', id), tag('Initiated', begun.toISOString())]),
        )
      return xml(response, 'ListMultipartUploadsResult', [tag('IsTruncated', false), ...list])
    }
    const after = query.get('continuation-token') ?? ''
    const keys = [...objects.keys()].filter(key => key.startsWith(prefix) && key > after).sort()
    const page = keys.slice(0, pageSize)
    const contents = page.map(key => element('Contents', [tag('Key', key), ...facts(objects.get(key)!)]))
    const next = keys.length > page.length ? [tag('NextContinuationToken', page.at(-1)!)] : []
    return xml(response, 'ListBucketResult', [tag('IsTruncated', next.length > 0), ...next, ...contents])
  }

  function store(key: string, bytes: Buffer, etag: string, headers: Map<string, string>): StoredObject {
    const stored = { bytes, etag, modified: new Date(), headers }
    objects.set(key, stored)
    return stored
  }

  return {
    config,
    /** The same as variables, for the settings that begin with `of`. */
    env: (of: 'RENDERS' | 'UPLOADS') => ({
      [`${of}_S3_BUCKET`]: bucket,
      [`${of}_S3_REGION`]: region,
      [`${of}_S3_ENDPOINT`]: endpoint,
      [`${of}_S3_ACCESS_KEY_ID`]: credentials.accessKeyId,
      [`${of}_S3_SECRET_ACCESS_KEY`]: credentials.secretAccessKey,
    }),
    objects,
    multiparts,
    requests,
    /** From now on, answers what `when` gives a status for with that status. */
    refuse(when: (request: S3Request) => number | null) {
      refused = when
    },
  }
}

function keptHeaders(headers: IncomingHttpHeaders): Map<string, string> {
  const kept = Object.entries(headers).filter(([name]) => /^(content-type$|x-amz-meta-)/.test(name))
  return new Map(kept.map(([name, value]) => [name, String(value)]))
}

const md5 = (bytes: Buffer) => `"${createHash('md5').update(bytes).digest('hex')}"`
const element = (name: string, content: string[]) => `<${name}>${content.join('')}</${name}>`
const facts = ({ bytes, etag, modified }: { bytes: Buffer; etag: string; modified: Date }) => [
  tag('Size', bytes.length),
  tag('ETag', etag),
  tag('LastModified', modified.toISOString()),
]

function tag(name: string, value: string | number | boolean): string {
  const text = String(value).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
  return element(name, [text])
}

function valuesOf(name: string, text: string): string[] {
  return [...text.matchAll(new RegExp(`<${name}>(.*?)</${name}>`, 'g'))].map(([, value = '']) =>
    value.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&amp;', '&'),
  )
}

function xml(response: ServerResponse, name: string, content: string[], status = 200) {
  response.writeHead(status, { 'content-type': 'application/xml' })
  response.end(`<?xml version="1.0" encoding="UTF-8"?>${element(name, content)}`)
}

function refuse(response: ServerResponse, status: number, code: string, message: string) {
  if (response.headersSent) return response.destroy()
  return xml(response, 'Error', [tag('Code', code), tag('Message', message)], status)
}
