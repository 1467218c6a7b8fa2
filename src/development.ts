import { join } from 'node:path'
import type { Config } from './config.ts'

export interface Development {
  urls: { database: string; upstream: string }
  /** Tells whoever started the gateway by hand what is running and what to try next. */
  announce(origin: string): void
  stop(): Promise<void>
}

/**
 * Starts what is not configured: an embedded Postgres and the sandbox backend. Both are loaded only here and only
 * then, so a production install carries neither.
 */
export async function startDevelopment(config: Config): Promise<Development> {
  const database = config.database.url
    ? null
    : await (await import('./db/embedded.ts')).startEmbedded(config.dataDir)
  const sandbox = config.upstream.apiUrl
    ? null
    : await (await import('../sandbox/server.ts')).createSandbox({ dataDir: join(config.dataDir, 'sandbox') })

  return {
    urls: {
      database: config.database.url ?? database!.url,
      upstream: config.upstream.apiUrl ?? sandbox!.url,
    },
    announce(origin) {
      if (config.production) return
      const lines = [`reelgate listens on ${origin}`]
      if (sandbox)
        lines.push(
          `NEMO_API_URL is not set: the SANDBOX plays the backend on ${sandbox.url}. No video is really edited.`,
        )
      if (database)
        lines.push(`DATABASE_URL is not set: an embedded Postgres keeps its data in ${config.dataDir}.`)
      lines.push(
        `Try next:  npm run demo${config.http.port === 8080 ? '' : ` -- ${origin}`}   or open ${origin}/docs`,
      )
      console.log(`\n${lines.map(line => `  ${line}`).join('\n')}\n`)
    },
    async stop() {
      await sandbox?.close()
      await database?.stop()
    },
  }
}
