import type { IncomingMessage } from 'node:http'
import type { Fault } from './fault.ts'
import type { Faults } from './faults.ts'
import type { Reply } from './http.ts'
import type { Journal, JournalEntry } from './journal.ts'
import type { Settings } from './options.ts'
import type { Account, Store } from './state.ts'

/** What every handler may use. */
export interface Backend extends Store {
  settings: Settings
  journal: Journal
  faults: Faults
  /** http://127.0.0.1:41234 */
  origin(): string
  /** aborts when the sandbox closes */
  closing: AbortSignal
  /** ids of sessions whose stream is open, once per stream */
  streaming: string[]
}

/** One request, after its headers were found in order. */
export interface Call {
  req: IncomingMessage
  params: Record<string, string>
  /** the body as text; null where the handler reads it itself */
  text: string | null
  /** the body as an object; null when it is none */
  body: Record<string, unknown> | null
  /** the journal's entry for it: a handler sets `accepted` the moment it acts */
  entry: JournalEntry
  fault: Fault | null
}

/** A call that carries a token. */
export interface SignedCall extends Call {
  account: Account
}

export type OpenHandler = (backend: Backend, call: Call) => Reply | Promise<Reply>
export type SignedHandler = (backend: Backend, call: SignedCall) => Reply | Promise<Reply>
