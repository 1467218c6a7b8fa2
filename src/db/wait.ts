import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const PATIENCE_MS = 30_000

export class DatabaseUnreachableError extends Error {
  override readonly name = 'DatabaseUnreachableError'
}

/** Resolves once the database answers; after 30 s without an answer throws DatabaseUnreachableError (exit code 69). */
export async function waitForDatabase(url: string, patienceMs = PATIENCE_MS): Promise<void> {
  for (const end = Date.now() + patienceMs; ; await sleep(500)) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 3_000 })
    try {
      await client.connect()
      await client.query('select 1')
      return
    } catch (error) {
      // The address holds a password; only the reason is told.
      const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message
      if (Date.now() > end)
        throw new DatabaseUnreachableError(`The database cannot be reached (${reason}). Check DATABASE_URL.`)
    } finally {
      await client.end().catch(() => {})
    }
  }
}
