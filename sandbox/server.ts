import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { issueToken, reissueToken } from './accounts.ts'
import type { Backend } from './context.ts'
import { dispatch } from './dispatch.ts'
import { door } from './door.ts'
import { createFaults, type Faults } from './faults.ts'
import { type JournalEntry, openJournal } from './journal.ts'
import { paced, type SandboxOptions, toSettings } from './options.ts'
import { setDraft } from './sessions.ts'
import { openStore, type Session, type World } from './state.ts'

export type { Endpoint, Fault } from './fault.ts'
export type { Faults } from './faults.ts'
export type { JournalEntry } from './journal.ts'
export type { SandboxOptions, Speed } from './options.ts'

export interface Sandbox {
  /** http://127.0.0.1:41234, without a slash at its end */
  url: string
  /** Every request so far, also those before a restart with the same `dataDir`. */
  journal(): JournalEntry[]
  faults: Faults
  state: SandboxState
  /** Ends open streams and sockets. What was begun goes on by the clock when `dataDir` is opened again. */
  close(): Promise<void>
}

/** For tests that need a world which the API cannot make. */
export interface SandboxState {
  /** Everything, live. */
  world: World
  session(id: string): Session | undefined
  /** A registered account's token; nobody can mint it again. */
  issueToken(credits?: number): { token: string; userId: string }
  /** Another token for an account, as if a guest had registered; the one before is dead. */
  reissueToken(userId: string): { token: string; userId: string }
  setCredits(userId: string | 'all', credits: number): void
  /** Makes any JSON text the session's draft, an XML string for instance. */
  setDraft(sessionId: string, text: string): void
}

/** Starts a NemoVideo backend of its own (docs/upstream-contract.md). */
export async function createSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const settings = toSettings(options)
  const dataDir = options.dataDir ?? null
  const store = openStore(dataDir)
  const closing = new AbortController()
  const backend: Backend = {
    ...store,
    settings,
    journal: openJournal(dataDir),
    faults: createFaults(store),
    origin: () => url,
    closing: closing.signal,
    streaming: [],
  }
  const { world, save } = store

  const server = createServer((req, res) => {
    const handle = req.url?.startsWith('/__sandbox/') ? door : dispatch
    handle(backend, req, res).catch(error => {
      console.error(error)
      if (res.headersSent) res.destroy()
      else res.writeHead(500, { 'content-type': 'text/plain' }).end('Internal Server Error')
    })
  })
  // An upload takes the time it takes.
  server.requestTimeout = 0
  const port = await listen(server, settings.host, options.port || world.port || 0, !options.port)
  const url = `http://${settings.host}:${port}`
  world.port = port
  save()

  return {
    url,
    journal: backend.journal.entries,
    faults: backend.faults,
    state: {
      world,
      session: id => world.sessions[id],
      issueToken: credits => issueToken(backend, credits),
      reissueToken: userId => reissueToken(backend, userId),
      setCredits(userId, credits) {
        for (const account of world.accounts) {
          if (userId === 'all' || account.userId === userId) account.credits = credits
        }
        save()
      },
      setDraft(sessionId, text) {
        setDraft(world.sessions[sessionId]!, text)
        save()
      },
    },
    async close() {
      closing.abort()
      const closed = new Promise(resolve => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

/** The port it listens on: the wished one, or when that is taken and `orAny`, any. */
async function listen(server: Server, host: string, port: number, orAny: boolean): Promise<number> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, host, () => {
        server.off('error', reject)
        resolve()
      })
    })
    return (server.address() as AddressInfo).port
  } catch (error) {
    const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
    if (!taken || !orAny || port === 0) throw error
    return listen(server, host, 0, false)
  }
}

if (import.meta.main) {
  const { SANDBOX_PORT = '0', SANDBOX_HOST = '127.0.0.1', SANDBOX_DATA, SANDBOX_PACE = '1' } = process.env
  const sandbox = await createSandbox({
    port: Number(SANDBOX_PORT),
    host: SANDBOX_HOST,
    dataDir: SANDBOX_DATA ?? null,
    speed: paced(Number(SANDBOX_PACE)),
  })
  console.log(`The NemoVideo sandbox listens on ${sandbox.url}`)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => sandbox.close().then(() => process.exit(0)))
  }
}
