import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Change, Track } from './draft.ts'

export interface Account {
  /** null: registered, its token was issued by the door and cannot be renewed */
  clientId: string | null
  userId: string
  token: string
  expiresAt: number
  revoked: boolean
  credits: number
}

export interface Media {
  filename: string
  file_type: 'video' | 'image' | 'audio'
  cdn_url: string
  /** seconds (§0.7) */
  duration: number | null
  width: number | null
  height: number | null
  fps: number | null
  hash: string
}

/** Work that was begun: it takes effect at `at` whether or not anybody listens, and after a restart too. */
export interface Effect {
  at: number
  changes: Change[]
  /** credits: reserved until then, spent at that time */
  cost: number
  generated?: string
}

export interface Session {
  id: string
  taskId: string
  taskName: string
  language: string
  userId: string
  tracks: Track[]
  /** the JSON text that the state answers; null before anything was said */
  draft: string | null
  /** sha256 of each text that `draft` ever was */
  drafts: string[]
  media: Media[]
  generated: { type: 'video'; prompt: string; url: string }[]
  effects: Effect[]
  runs: number
  edits: number
  /** when the last run's work ends, epoch ms */
  busyUntil: number
}

export interface RenderJob {
  id: string
  sessionId: string
  userId: string
  createdAt: number
  workMs: number
  fate: 'complete' | 'fail' | 'dead_url'
  cancelledAt: number | null
}

export interface World {
  port: number | null
  accounts: Account[]
  sessions: Record<string, Session>
  /** in the order they were accepted */
  renders: RenderJob[]
  mints: { ip: string; at: number }[]
}

export interface Store {
  world: World
  /** To be called after each change: with a directory, the file is whole at any moment. */
  save(): void
}

/** The sandbox's memory: one JSON file in `dataDir`, or nothing but memory. */
export function openStore(dataDir: string | null): Store {
  const empty: World = { port: null, accounts: [], sessions: {}, renders: [], mints: [] }
  if (dataDir === null) return { world: empty, save: () => {} }
  mkdirSync(dataDir, { recursive: true })
  const file = join(dataDir, 'sandbox.json')
  const world: World = { ...empty, ...readJson(file) }
  const save = () => {
    writeFileSync(`${file}.tmp`, JSON.stringify(world))
    renameSync(`${file}.tmp`, file)
  }
  return { world, save }
}

function readJson(file: string): Partial<World> {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw error
  }
}
