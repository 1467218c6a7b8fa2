import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Endpoint } from './fault.ts'

/** One request as the sandbox saw it: the ground truth about what was sent. It never holds a token. */
export interface JournalEntry {
  /** arrival, epoch ms */
  at: number
  endpoint: Endpoint | 'unknown'
  method: string
  path: string
  /** whether it carried a token */
  authorization: boolean
  /** X-Skill-Platform */
  platform?: string
  clientId?: string
  userId?: string
  sessionId?: string
  renderId?: string
  /** of a message */
  text?: string
  /** of an upload: all its files together, and the first file's digest */
  bytes?: number
  sha256?: string
  /** Whether the sandbox did what was asked, whatever it answered. */
  accepted: boolean
  /** 'ok', 'stream', 'code 1001', 'http 404', 'refused' (success: false), 'aborted', 'hang', 'reset' */
  answer: string
  /** the fault that bent this answer */
  fault?: string
  /** of a message: another one of the same session was still being worked on */
  overlap?: boolean
  /** of a render's poll: what it was told */
  status?: string
  /** of a render: the draft is, byte for byte, one that the session's state has shown */
  draftMatches?: boolean
}

export interface Journal {
  add(entry: JournalEntry): void
  entries(): JournalEntry[]
}

/** Keeps the entries, and in `dataDir` a line each in journal.ndjson, which is read back at the start. */
export function openJournal(dataDir: string | null): Journal {
  const file = dataDir === null ? null : join(dataDir, 'journal.ndjson')
  const entries: JournalEntry[] = file !== null && existsSync(file) ? readLines(file) : []
  return {
    add(entry) {
      entries.push(entry)
      if (file !== null) appendFileSync(file, `${JSON.stringify(entry)}\n`)
    },
    entries: () => entries.map(entry => ({ ...entry })),
  }
}

function readLines(file: string): JournalEntry[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(line => line.endsWith('}'))
    .map(line => JSON.parse(line))
}
