/** `npm run keys -- new | status | rotate`: the keys that seal upstream tokens (docs/security.md, Keys). */
import './fast-imports.ts'
import { randomBytes } from 'node:crypto'
import { type Config, ConfigError, readEnv, secretsOf, type TokenKey, toConfig } from './config.ts'
import type { Database } from './db/client.ts'
import { DatabaseUnreachableError, waitForDatabase } from './db/wait.ts'
import { guard, protect } from './scrub.ts'
import type { KeyStatus } from './services/accounts/rotation.ts'

// Only what is imported from here on is loaded quickly.
const { openDatabase } = await import('./db/client.ts')
const { keyStatus, rotate } = await import('./services/accounts/rotation.ts')

const USAGE = `Usage: npm run keys -- <command>
  new      prints a fresh key for TOKEN_KEYS
  status   counts the tokens that each key seals, and says which keys can go
  rotate   seals again, with the first key of TOKEN_KEYS, whatever another key sealed; gateways go on meanwhile
status and rotate read DATABASE_URL and TOKEN_KEYS as the gateway does.`

const EXIT = { failed: 1, usage: 64, database: 69, config: 78 }
const DATABASE_WAIT_MS = 5_000

class UsageError extends Error {}

try {
  process.exitCode = await run(process.argv.slice(2))
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode =
    error instanceof UsageError
      ? EXIT.usage
      : error instanceof ConfigError
        ? EXIT.config
        : error instanceof DatabaseUnreachableError
          ? EXIT.database
          : EXIT.failed
}

async function run([command, ...more]: string[]): Promise<number> {
  if (more.length > 0) throw new UsageError(`${command} takes no argument.\n${USAGE}`)
  switch (command) {
    case 'new':
      console.log(newKey(new Date()))
      return 0
    case 'status':
      return withDatabase(async ({ db }, keys) => report(await keyStatus(db, keys)))
    case 'rotate':
      return withDatabase(async ({ db }, keys) => {
        const { resealed, overtaken, unopened } = await rotate(db, keys, so =>
          console.log(`${so.resealed} sealed again`),
        )
        console.log(
          `Done: ${resealed} sealed again with "${keys[0]!.id}", ${overtaken} renewed by a gateway meanwhile.`,
        )
        for (const { userId, error } of unopened)
          console.error(`The token of user ${userId}: ${error.message}.`)
        return report(await keyStatus(db, keys)) || (unopened.length > 0 ? EXIT.failed : 0)
      })
    default:
      throw new UsageError(command === undefined ? USAGE : `There is no command "${command}".\n${USAGE}`)
  }
}

/** The day is in its name, so that a list of keys tells their age. */
function newKey(today: Date): string {
  const day = today.toISOString().slice(0, 10).replaceAll('-', '')
  return `k${day}-${randomBytes(2).toString('hex')}:${randomBytes(32).toString('base64')}`
}

async function withDatabase(
  work: (database: Database, keys: TokenKey[]) => Promise<number>,
): Promise<number> {
  for (const stream of [process.stdout, process.stderr]) guard(stream)
  const config = toConfig(readEnv())
  protect(secretsOf(config))
  const { url, keys } = needed(config)
  await waitForDatabase(url, DATABASE_WAIT_MS)
  const database = openDatabase(url, () => {})
  try {
    return await work(database, keys)
  } finally {
    await database.close()
  }
}

function needed({ database: { url }, tokenKeys: keys }: Config) {
  const mistakes: string[] = []
  if (!url) mistakes.push('DATABASE_URL must be set: keys are changed in the database that gateways share')
  if (!keys) mistakes.push('TOKEN_KEYS must be set: the key that development generates is never changed')
  if (!url || !keys) throw new ConfigError(mistakes)
  return { url, keys }
}

function report(status: KeyStatus[]): number {
  const width = Math.max(...status.map(({ id }) => id.length))
  for (const { id, use, tokens } of status)
    console.log(`${id.padEnd(width)}  ${use.padEnd(7)}  ${tokens} ${tokens === 1 ? 'token' : 'tokens'}`)
  for (const { id, use, tokens } of status) {
    if (use === 'opens' && tokens > 0) console.log(`"${id}" is still needed. Run: npm run keys -- rotate`)
    if (use === 'opens' && tokens === 0)
      console.log(`"${id}" can be removed from TOKEN_KEYS once every gateway seals with "${status[0]!.id}".`)
    if (use === 'missing')
      console.error(`"${id}" is not in TOKEN_KEYS: what it sealed cannot be opened until it is there again.`)
  }
  return status.some(({ use }) => use === 'missing') ? EXIT.failed : 0
}
