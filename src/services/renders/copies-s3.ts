import type { Readable } from 'node:stream'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  paginateListObjectsV2,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import type { S3Config } from '../../config.ts'
import { connectionOf } from '../s3.ts'
import type { RenderFile } from '../upstream/client.ts'
import { type Copies, UNFINISHED_MS } from './copies.ts'
import { answerFrom } from './copy-answer.ts'

/** What one copy takes up of memory while it is made; S3 takes 10,000 parts and none, but the last, below 5 MiB. */
const PART_BYTES = 8 << 20
/** A slow client holds one for as long as its download takes; the SDK's 50 would make all others wait. */
const MAX_SOCKETS = 5_000
const PREFIX = 'renders/'
const KEY = /^renders\/([0-9a-f-]{36})\.mp4$/

/** A bucket that all instances share. Nothing under `renders/` in it may be anybody else's: it would be swept. */
export function openS3Copies(config: S3Config): Copies {
  const { bucket: Bucket } = config
  const s3 = new S3Client({
    ...connectionOf(config),
    // Checksums that services other than Amazon's do not know; what is sent is signed with its hash anyway.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: 5_000,
      requestTimeout: 60_000,
      throwOnRequestTimeout: true,
      httpAgent: { maxSockets: MAX_SOCKETS },
      httpsAgent: { maxSockets: MAX_SOCKETS },
    },
  })
  const place = (id: string) => ({ Bucket, Key: `${PREFIX}${id}.mp4` })

  return {
    // In parts, since their number need not be known before and a part can be sent again; nobody sees it until the end.
    async keep(id, { body, bytes }) {
      const target = place(id)
      const { UploadId } = await s3.send(
        new CreateMultipartUploadCommand({ ...target, ContentType: 'video/mp4' }),
      )
      try {
        const Parts: { PartNumber: number; ETag: string | undefined }[] = []
        let sent = 0
        for await (const Body of partsOf(body)) {
          const PartNumber = Parts.length + 1
          const { ETag } = await s3.send(new UploadPartCommand({ ...target, UploadId, PartNumber, Body }))
          Parts.push({ PartNumber, ETag })
          sent += Body.length
        }
        if (bytes !== null && sent !== bytes)
          throw new Error(`The film has ${sent} bytes instead of ${bytes}`)
        await s3.send(new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts } }))
      } catch (error) {
        body.destroy()
        await s3.send(new AbortMultipartUploadCommand({ ...target, UploadId })).catch(() => {})
        throw error
      }
    },

    async open(id, conditions): Promise<RenderFile | null> {
      const found = await s3.send(new HeadObjectCommand(place(id))).catch(orNull)
      if (!found) return null
      const { ETag = `"${id}"`, ContentLength = 0, LastModified = new Date(0) } = found
      const film = { etag: ETag, lastModified: LastModified.toUTCString(), bytes: ContentLength }
      return answerFrom(film, conditions, async range => {
        const Range = range ? `bytes=${range.start}-${range.end}` : undefined
        const { Body } = await s3.send(new GetObjectCommand({ ...place(id), Range }))
        return Body as Readable
      })
    },

    async sweep(wanted) {
      for await (const { Contents = [] } of paginateListObjectsV2(
        { client: s3 },
        { Bucket, Prefix: PREFIX },
      )) {
        const ids = Contents.flatMap(({ Key = '' }) => KEY.exec(Key)?.[1] ?? [])
        const kept = new Set(await wanted(ids))
        for (const id of ids) if (!kept.has(id)) await s3.send(new DeleteObjectCommand(place(id)))
      }
      const { Uploads = [] } = await s3.send(new ListMultipartUploadsCommand({ Bucket, Prefix: PREFIX }))
      for (const { Key, UploadId, Initiated = new Date() } of Uploads)
        if (Initiated.getTime() < Date.now() - UNFINISHED_MS)
          await s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })).catch(orNull)
    },
  }
}

/** Cuts a stream into parts of one size; the last is what is left. */
async function* partsOf(body: Readable): AsyncGenerator<Buffer> {
  let chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    length += chunk.length
    if (length < PART_BYTES) continue
    yield Buffer.concat(chunks)
    chunks = []
    length = 0
  }
  if (length > 0) yield Buffer.concat(chunks)
}

/** For an object that is not there. */
function orNull(error: { $metadata?: { httpStatusCode?: number } }): null {
  if (error.$metadata?.httpStatusCode === 404) return null
  throw error
}
