import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { crc32 } from 'node:zlib'
import type { S3Config } from '../../src/config.ts'

/** What is wrong with a request's signature (AWS Signature Version 4, in the header); null: nothing. */
export function signatureTrouble(
  request: IncomingMessage,
  url: URL,
  body: Buffer,
  { region, credentials }: S3Config,
): string | null {
  const { headers, method } = request
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? '',
    )
  if (!match) return 'it is not signed'
  const [, keyId, day = '', place = '', names = '', signature = ''] = match
  if (keyId !== credentials!.accessKeyId || place !== region) return `signed by ${keyId} for ${place}`
  const signed = names.split(';')
  for (const name of ['host', 'x-amz-date', 'x-amz-content-sha256'])
    if (!signed.includes(name)) return `${name} is not signed`
  const hash = String(headers['x-amz-content-sha256'])
  if (/^[0-9a-f]{64}$/.test(hash) && hash !== sha256(body)) return 'the body is not the one that was signed'
  const query = [...url.searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&')
  const canonical = [
    method,
    url.pathname,
    query,
    ...signed.map(
      name =>
        `${name}:${String(headers[name] ?? '')
          .trim()
          .replace(/ +/g, ' ')}`,
    ),
    '',
    names,
    hash,
  ].join('\n')
  const scope = `${day}/${place}/s3/aws4_request`
  const text = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(Buffer.from(canonical))].join('\n')
  const key = [day, place, 's3', 'aws4_request'].reduce<Buffer | string>(
    hmac,
    `AWS4${credentials!.secretAccessKey}`,
  )
  return timingSafeEqual(hmac(key, text), Buffer.from(signature, 'hex')) ? null : 'the signature is another'
}

/** The content of a body, out of its aws-chunked wrapping if it has one; null when it is not what its checksum says. */
export function contentOf(headers: IncomingMessage['headers'], sent: Buffer): Buffer | null {
  const chunked = /aws-chunked/.test(headers['content-encoding'] ?? '')
  const { content, trailers } = chunked ? unwrap(sent) : { content: sent, trailers: '' }
  const told = headers['x-amz-checksum-crc32'] ?? /x-amz-checksum-crc32:(\S+)/.exec(trailers)?.[1]
  if (chunked && content.length !== Number(headers['x-amz-decoded-content-length'])) return null
  if (told === undefined) return content
  const sum = Buffer.alloc(4)
  sum.writeUInt32BE(crc32(content))
  return sum.toString('base64') === told ? content : null
}

function unwrap(sent: Buffer): { content: Buffer; trailers: string } {
  const chunks: Buffer[] = []
  for (let at = 0; ; ) {
    const lineEnd = sent.indexOf('\r\n', at)
    const size = Number.parseInt(sent.subarray(at, lineEnd).toString(), 16)
    const begin = lineEnd + 2
    if (!(size > 0)) return { content: Buffer.concat(chunks), trailers: sent.subarray(begin).toString() }
    chunks.push(sent.subarray(begin, begin + size))
    at = begin + size + 2
  }
}

const hmac = (key: Buffer | string, text: string): Buffer => createHmac('sha256', key).update(text).digest()
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
const encode = (text: string) =>
  encodeURIComponent(text).replace(/[!'()*]/g, mark => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`)
