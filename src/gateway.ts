import closeWithGrace from 'close-with-grace'
import { createApp } from './app.ts'
import { ConfigError, readEnv, secretsOf, toConfig } from './config.ts'
import { armCrashPoint } from './crash-points.ts'
import { migrate, SchemaTooNewError } from './db/migrate.ts'
import { waitForDatabase } from './db/wait.ts'
import { startDevelopment } from './development.ts'
import { giveBack } from './memory.ts'
import { guard, protect } from './scrub.ts'

const EXIT_CONFIG = 78
const EXIT_DATABASE = 69
const CLOSE_MS = 24_000
/** When another instance goes down, thousands come at once; whom the kernel turns away waits for seconds. */
const BACKLOG = 4_096

// As `node --disable-proto=delete`, however it is started: no key of an input is a way to what all objects inherit.
Reflect.deleteProperty(Object.prototype, '__proto__')
for (const stream of [process.stdout, process.stderr]) guard(stream)
// Node itself would print an error that nobody catches, past every net.
process.once('uncaughtException', end)

try {
  const config = toConfig(readEnv())
  if (config.crashAt) armCrashPoint(config.crashAt)
  protect(secretsOf(config))
  const development = await startDevelopment(config)
  const { urls } = development
  protect([new URL(urls.database).password])
  await waitForDatabase(urls.database)
  await migrate(urls.database)
  const app = await createApp(config, urls)
  giveBack()
  await app.http.listen({ host: config.http.host, port: config.http.port, backlog: BACKLOG })
  development.announce(app.http.listeningOrigin)

  process.off('uncaughtException', end)
  closeWithGrace({ delay: CLOSE_MS }, async ({ err, signal }) => {
    if (err) app.http.log.fatal({ err }, 'ending after an unexpected error')
    else app.http.log.info({ signal }, 'closing')
    await app.close()
    await development.stop()
  })
} catch (error) {
  end(error)
}

function end(error: unknown): never {
  if (error instanceof ConfigError || error instanceof SchemaTooNewError) {
    console.error(error.message)
    process.exit(EXIT_CONFIG)
  }
  if ((error as Error).name === 'DatabaseUnreachableError') {
    console.error((error as Error).message)
    process.exit(EXIT_DATABASE)
  }
  console.error(error)
  process.exit(1)
}
