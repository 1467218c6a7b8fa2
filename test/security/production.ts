import type { Test } from 'tap'
import { testDatabaseUrl } from '../helpers/database.ts'
import { startGateway } from '../helpers/gateway.ts'
import { startSandbox } from '../sandbox/helpers.ts'

export const PAGE = 'https://app.example'

/** A process as it runs in production, and a second one over the same database when `env` is another's. */
export async function startProduction(t: Test, env: Record<string, string> = {}) {
  const sandbox = await startSandbox(t)
  const settings = {
    NODE_ENV: 'production',
    DATABASE_URL: await testDatabaseUrl(t),
    NEMO_API_URL: sandbox.url,
    ALLOWED_ORIGINS: PAGE,
    OPS_TOKEN: 'operators-only-0123456789',
    ...env,
  }
  return { ...(await startGateway(t, settings)), sandbox, settings }
}
