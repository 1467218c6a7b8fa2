import './fast-imports.ts'
import { readEnv, toConfig } from './config.ts'

// Only what is imported from here on is loaded quickly.
const { migrate } = await import('./db/migrate.ts')

const config = toConfig(readEnv())
const embedded = config.database.url
  ? null
  : await (await import('./db/embedded.ts')).startEmbedded(config.dataDir)
try {
  const known = await migrate(config.database.url ?? embedded!.url)
  console.log(`The schema is up to date (${known} ${known === 1 ? 'migration' : 'migrations'}).`)
} finally {
  await embedded?.stop()
}
