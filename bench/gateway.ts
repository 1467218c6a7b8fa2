/** What the benches set up alike: the gateway, its settings, and a user who signs in. */
import { type Server, serve } from './processes.ts'

/** As `npm start` does. */
const FLAGS = ['--max-semi-space-size=16']

/** The gateway; with `PROFILE=<folder>` it leaves a CPU profile there. */
export function startGateway(env: Record<string, string | undefined>): Promise<Server> {
  const { PROFILE } = process.env
  const profile = PROFILE ? ['--cpu-prof', `--cpu-prof-dir=${PROFILE}`] : []
  return serve('../src/server.ts', env, [...FLAGS, ...profile])
}

/** Limits that no load of a bench comes near: all of it comes from one address. */
export const settings = (urls: { database: string; upstream: string }) => ({
  DATABASE_URL: urls.database,
  NEMO_API_URL: urls.upstream,
  TOKEN_KEYS: `bench:${Buffer.alloc(32, 1).toString('base64')}`,
  EVENTS_READERS_PER_USER: '10000',
  RATE_LIMIT_PER_MINUTE: '100000000',
  GUESTS_PER_MINUTE: '1000000',
  CONNECTIONS_PER_ADDRESS: '100000',
  PORT: '0',
})

/** A guest with a project. */
export async function signIn(url: string): Promise<{ token: string; userId: string; id: string }> {
  const { token, user } = await post(`${url}/v1/auth/guest`, { delivery: 'bearer' })
  const { id } = await post(`${url}/v1/projects`, {}, token)
  return { token, userId: user.id, id }
}

export async function post(url: string, body: object, token?: string) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify(body),
  })
  // biome-ignore lint/suspicious/noExplicitAny: answers are read as a client reads them
  return (await response.json()) as any
}
