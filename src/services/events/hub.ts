import type { Entry } from './event.ts'
import { createSubscriber, type Sink, type Subscriber } from './subscriber.ts'

const POLL_MS = 1_000
const PAGE = 200

/** The log, as far as the hub reads it. */
export interface HubLog {
  read(projectId: string, after: number, limit: number): Promise<Entry[]>
  heads(projectIds: string[]): Promise<Map<string, number>>
}

interface Channel {
  projectId: string
  /** The newest entry offered to live subscribers; null until the first look into the log. */
  head: number | null
  /** The newest entry heard of. */
  known: number
  catchingUp: Promise<void> | null
  /** Those who have subscribed, whether their entries come already or not. */
  readers: number
  subscribers: Set<Subscriber>
}

export interface Hub {
  /** Entries that this instance has just committed, in order. */
  deliver(entries: Entry[]): void
  /** Another instance has committed up to `seq`. Only a hint: the log is what counts. */
  hint(projectId: string, seq: number): void
  /** Looks for news in every project that has readers here. */
  catchUp(): Promise<void>
  /** Prepares a reader after `after` (null: from now on). */
  subscribe(projectId: string, after: number | null): Promise<Subscription>
  close(): void
}

export interface Subscription {
  /** Entries after this one will come. */
  from: number
  /** Lets them come; whoever subscribes can announce the position before the first entry follows. */
  start(sink: Sink, onError: (error: unknown) => void): void
  close(): void
}

/** Fans the log out to this instance's readers: one channel a project, made with its first reader. */
export function createHub(
  log: HubLog,
  onError: (error: unknown) => void,
  onOffered?: (entries: Entry[]) => void,
): Hub {
  const channels = new Map<string, Channel>()
  let looking = false
  const poll = setInterval(async () => {
    // A slow database gets no second question while the first is open.
    if (looking) return
    looking = true
    await look().catch(onError)
    looking = false
  }, POLL_MS)

  function deliver(entries: Entry[]) {
    const channel = channels.get(entries[0]!.projectId)
    if (!channel) return
    channel.known = Math.max(channel.known, entries.at(-1)!.seq)
    if (channel.head === null || channel.known <= channel.head) return
    const fresh = entries.filter(entry => entry.seq > channel.head!)
    if (fresh[0]?.seq === channel.head + 1) advance(channel, fresh)
    else readOn(channel)
  }

  function hint(projectId: string, seq: number) {
    const channel = channels.get(projectId)
    if (!channel) return
    channel.known = Math.max(channel.known, seq)
    if (channel.head !== null && channel.known > channel.head) readOn(channel)
  }

  function advance(channel: Channel, entries: Entry[]) {
    channel.head = entries.at(-1)!.seq
    for (const subscriber of channel.subscribers) subscriber.offer(entries)
    onOffered?.(entries)
  }

  /** Reads what this instance did not write itself, or what arrived out of order. One reader at a time a channel. */
  function readOn(channel: Channel) {
    channel.catchingUp ??= Promise.resolve().then(() => readPages(channel))
  }

  async function readPages(channel: Channel) {
    try {
      while (channel.known > channel.head! && channel.readers > 0) {
        const { known } = channel
        const page = await log.read(channel.projectId, channel.head!, PAGE)
        const fresh = page.filter(entry => entry.seq > channel.head!)
        if (fresh.length > 0) advance(channel, fresh)
        // The log is what counts: what a hint promised is not there, or is no longer.
        else if (page.length === 0 && channel.known === known) channel.known = channel.head!
      }
    } catch (error) {
      onError(error)
    } finally {
      // In the turn of the last look at what is known: a hint after it starts anew.
      channel.catchingUp = null
    }
  }

  async function look() {
    const heads = await log.heads([...channels.keys()])
    for (const [projectId, seq] of heads) hint(projectId, seq)
  }

  async function catchUp() {
    await look()
    await Promise.all([...channels.values()].map(channel => channel.catchingUp))
  }

  /** The project's channel with one reader more; it lives as long as it has any. */
  async function open(projectId: string): Promise<Channel> {
    let channel = channels.get(projectId)
    if (!channel) {
      channel = { projectId, head: null, known: 0, catchingUp: null, readers: 0, subscribers: new Set() }
      channels.set(projectId, channel)
    }
    channel.readers++
    if (channel.head === null) {
      const heads = await log.heads([projectId]).catch(error => {
        leave(channel)
        throw error
      })
      channel.head ??= heads.get(projectId) ?? 0
      if (channel.known > channel.head) readOn(channel)
    }
    return channel
  }

  function leave(channel: Channel) {
    channel.readers--
    if (channel.readers === 0) channels.delete(channel.projectId)
  }

  return {
    deliver,
    hint,
    catchUp,
    async subscribe(projectId, after) {
      const channel = await open(projectId)
      let subscriber: Subscriber | null = null
      const from = after ?? channel.head!
      let closed = false
      return {
        from,
        start(sink, onError) {
          if (closed) return
          const source = { head: () => channel.head!, read: (seq: number) => log.read(projectId, seq, PAGE) }
          subscriber = createSubscriber({ source, sink, after: from, onError })
          channel.subscribers.add(subscriber)
        },
        close() {
          if (closed) return
          closed = true
          subscriber?.close()
          if (subscriber) channel.subscribers.delete(subscriber)
          leave(channel)
        },
      }
    },

    close() {
      clearInterval(poll)
    },
  }
}
