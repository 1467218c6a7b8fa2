import { createHash, randomBytes, randomUUIDv7 } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import type { Test } from 'tap'
import { createSandbox, type SandboxOptions } from '../../../sandbox/server.ts'
import { insertUser } from '../../../src/db/users.ts'
import { type Problem, ProblemError } from '../../../src/problems.ts'
import { createAccounts } from '../../../src/services/accounts/accounts.ts'
import { createTokenVault } from '../../../src/services/accounts/token-vault.ts'
import { createCredits } from '../../../src/services/credits.ts'
import { createEventLog } from '../../../src/services/events/log.ts'
import { createProjects } from '../../../src/services/projects.ts'
import { createTimelines } from '../../../src/services/timeline/timeline.ts'
import {
  BODY_LIMITS,
  type BodyLimits,
  type IncomingFile,
} from '../../../src/services/uploads/multipart-body.ts'
import type { Upload } from '../../../src/services/uploads/upload.ts'
import { createUploads } from '../../../src/services/uploads/uploads.ts'
import { createUpstreamClient, type UpstreamClient } from '../../../src/services/upstream/client.ts'
import { testDatabase } from '../../helpers/database.ts'

export const clip = readFileSync(new URL('../../../demo/clip.mp4', import.meta.url))
export const tiny = (extension: string) =>
  readFileSync(new URL(`../../fixtures/media/tiny.${extension}`, import.meta.url))
export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** A film of about `chunks` × 64 KiB that is made while it is read. */
export function* film(chunks: number): Generator<Buffer> {
  yield clip
  for (let i = 0; i < chunks; i++) yield Buffer.alloc(65_536, i)
}

/** The files of a request, as the route hands them on. */
export async function* request(
  ...files: { filename: string; mediaType?: string; bytes: Buffer | Readable }[]
): AsyncGenerator<IncomingFile> {
  for (const { filename, mediaType = 'application/octet-stream', bytes } of files)
    yield { filename, mediaType, body: Buffer.isBuffer(bytes) ? Readable.from([bytes]) : bytes }
}

/** Alice with an empty project, Bob, the sandbox, and everything between. */
export async function setStage(
  t: Test,
  options: {
    sandbox?: SandboxOptions
    maxBytes?: number
    limits?: Partial<BodyLimits>
    /** Starts a server of the test's own in front of the sandbox and gives its address. */
    front?: (sandboxUrl: string) => Promise<string>
    /** Stands between the services and the upstream. */
    bend?: (upstream: UpstreamClient) => Partial<UpstreamClient>
  } = {},
) {
  const { url, database } = await testDatabase(t)
  const { db } = database
  const sandbox = await createSandbox(options.sandbox)
  const client = createUpstreamClient({
    apiUrl: (await options.front?.(sandbox.url)) ?? sandbox.url,
    webUrl: 'https://nemovideo.example',
    skillSource: 'reelgate',
    skillVersion: '0.0.0',
    bodyCase: 'snake',
    streaming: true,
    limits: { runMs: 5_000, silenceMs: 5_000 },
  })
  const upstream = { ...client, ...options.bend?.(client) }
  const errors: unknown[] = []
  const log = await createEventLog({ database, url, onError: error => errors.push(error), hints: false })
  t.teardown(async () => {
    await log.close()
    await client.close()
    await sandbox.close()
  })
  const accounts = createAccounts({
    db,
    vault: createTokenVault([{ id: 'test', secret: randomBytes(32) }]),
    upstream,
    sharedToken: null,
    webUrl: 'https://nemovideo.example',
    rateLimitRetryMs: 20,
    mintsPerWeek: 1_000,
  })
  const projects = createProjects({ db, log, accounts, upstream })
  const timelines = createTimelines({ db, log, projects, upstream })
  const { maxBytes = 10_000_000 } = options
  const limits = { ...BODY_LIMITS, ...options.limits }
  const parts = { db, log, accounts, projects, timelines, upstream }
  const uploads = createUploads({ ...parts, maxBytes, limits })

  async function createUser(language = 'en') {
    const user = await insertUser(db, { id: randomUUIDv7(), kind: 'guest', language })
    return { userId: user.id, platform: 'web' }
  }
  const [alice, bob] = [await createUser(), await createUser()]
  const project = await projects.create(alice.userId, { name: 'Holiday', language: 'en' })

  return {
    ...parts,
    url,
    pool: database.pool,
    uploads,
    credits: createCredits(parts),
    sandbox,
    alice,
    bob,
    project,
    errors,
    createUser,
    /** What the log told of uploads, in order. */
    async told(projectId = project.id): Promise<Upload[]> {
      const page = await log.page(projectId, undefined, 200)
      if (page === 'not a cursor') throw new Error(page)
      return page.entries
        .map(entry => JSON.parse(entry.chunk))
        .filter(chunk => chunk.name === 'upload.updated')
        .map(chunk => chunk.value)
    },
    /** What the sandbox heard at the upload's endpoint. */
    heard: () => sandbox.journal().filter(entry => entry.endpoint === 'upload'),
  }
}

/** The problem that a call was refused with. */
export async function problemOf(call: Promise<unknown>): Promise<Problem> {
  const error = await call.then(
    () => new Error('it was not refused'),
    (error: unknown) => error,
  )
  if (error instanceof ProblemError) return error.problem
  throw error
}

export async function until<T>(ask: () => T | Promise<T>): Promise<NonNullable<T>> {
  for (const end = Date.now() + 10_000; ; await new Promise(resolve => setTimeout(resolve, 5))) {
    const answer = await ask()
    if (answer) return answer
    if (Date.now() > end) throw new Error('what the test waits for did not come')
  }
}
