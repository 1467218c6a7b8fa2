import type { Entry } from './event.ts'
import { inParts } from './parts.ts'
import { createRing, firstOf, type Ring } from './ring.ts'
import { createSubscriber, LostPositionError, type Sink, type Subscriber } from './subscriber.ts'

const POLL_MS = 1_000
const PAGE = 200
/** A channel that its last reader left is kept for those who come back. */
const LINGER_MS = 60_000
const MAX_LINGERING = 500

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
  ring: Ring
  catchingUp: Promise<void> | null
  /** The look at the head that everybody who comes now waits for. */
  opening: Promise<void> | null
  /** Reads under way, by position and head: who wants the same shares one. */
  reads: Map<string, Promise<Entry[]>>
  /** Those who have subscribed, whether their entries come already or not. */
  readers: number
  subscribers: Set<Subscriber>
  leftAt: number
  /** The log is no longer what this channel knew of it. */
  lost: boolean
}

export interface Hub {
  /** Entries of one project that this instance has just committed, in order. */
  deliver(entries: Entry[]): void
  /** Another instance has committed up to `seq`. Only a hint: the log is what counts. */
  hint(projectId: string, seq: number): void
  /** Looks for news in every project that has readers here. */
  catchUp(): Promise<void>
  /** Prepares a reader after `after` (null: from now on). Null: there is no continuing from there. */
  subscribe(projectId: string, after: number | null): Promise<Subscription | null>
  /** Forgets all that is known of the log and ends all readers: they come back and hear that they lost their place. */
  reset(): void
  close(): void
}

export interface Subscription {
  /** Entries after this one will come. */
  from: number
  /** Lets them come; whoever subscribes can announce the position before the first entry follows. */
  start(sink: Sink, onError: (error: unknown) => void): void
  close(): void
}

/** Who else hears of what the hub sees. */
export interface HubListeners {
  onError(error: unknown): void
  /** A project's newest number is smaller than one seen before. */
  onBackwards?: (() => void) | undefined
  /** Each batch that the readers of one project are offered. */
  onOffered?: ((entries: Entry[]) => void) | undefined
}

/** Fans the log out to this instance's readers: one channel a project, made with its first reader. */
export function createHub(log: HubLog, listeners: HubListeners): Hub {
  const { onError, onBackwards, onOffered } = listeners
  const channels = new Map<string, Channel>()
  const lingering = new Set<Channel>()
  let looking = false
  const poll = setInterval(async () => {
    forgetLeft(performance.now() - LINGER_MS)
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
    const fresh = entries[0]!.seq > channel.head ? entries : entries.filter(({ seq }) => seq > channel.head!)
    if (fresh[0]?.seq === channel.head + 1) advance(channel, fresh)
    else if (channel.readers > 0) readOn(channel)
  }

  function hint(projectId: string, seq: number) {
    const channel = channels.get(projectId)
    if (!channel) return
    channel.known = Math.max(channel.known, seq)
    if (channel.head !== null && channel.known > channel.head && channel.readers > 0) readOn(channel)
  }

  function advance(channel: Channel, entries: Entry[]) {
    channel.head = entries.at(-1)!.seq
    channel.ring.push(entries)
    for (const part of inParts(entries)) for (const subscriber of channel.subscribers) subscriber.offer(part)
    onOffered?.(entries)
  }

  /** Reads what this instance did not write itself, or what arrived out of order. One reader at a time a channel. */
  function readOn(channel: Channel) {
    channel.catchingUp ??= Promise.resolve().then(() => readPages(channel))
  }

  async function readPages(channel: Channel) {
    try {
      while (channel.known > channel.head! && channel.readers > 0 && !channel.lost) {
        const { known } = channel
        const page = await log.read(channel.projectId, channel.head!, PAGE)
        if (channel.lost) return
        const fresh = page.filter(entry => entry.seq > channel.head!)
        if (fresh[0] && firstOf(fresh[0]) !== channel.head! + 1) return lose(channel)
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
    const read = [...channels.values()].filter(({ readers, head }) => readers > 0 && head !== null)
    if (read.length === 0) return
    const before = new Map(read.map(({ projectId, head }) => [projectId, head!]))
    const heads = await log.heads([...before.keys()])
    for (const [projectId, seq] of heads) hint(projectId, seq)
    if ([...heads].some(([projectId, seq]) => seq < before.get(projectId)!)) onBackwards?.()
  }

  async function catchUp() {
    await look()
    await Promise.all([...channels.values()].map(channel => channel.catchingUp))
  }

  /** The project's channel with one reader more. */
  async function open(projectId: string): Promise<Channel> {
    let channel = channels.get(projectId)
    if (!channel) {
      channel = newChannel(projectId)
      channels.set(projectId, channel)
    }
    if (channel.readers++ === 0 || channel.head === null) channel.opening ??= lookAtHead(channel)
    lingering.delete(channel)
    try {
      await channel.opening
      return channel
    } catch (error) {
      leave(channel)
      throw error
    }
  }

  async function lookAtHead(channel: Channel) {
    try {
      const known = channel.head
      const head = (await log.heads([channel.projectId])).get(channel.projectId) ?? 0
      if (known !== null && head < known) onBackwards?.()
      channel.head ??= head
      channel.known = Math.max(channel.known, head)
      if (channel.known > channel.head) readOn(channel)
      await channel.catchingUp
    } finally {
      channel.opening = null
    }
  }

  function leave(channel: Channel) {
    channel.readers--
    if (channel.readers > 0 || channels.get(channel.projectId) !== channel) return
    if (channel.head === null) return void channels.delete(channel.projectId)
    channel.leftAt = performance.now()
    lingering.add(channel)
    if (lingering.size > MAX_LINGERING) forgetLeft(Number.NEGATIVE_INFINITY)
  }

  /** Forgets channels that were left before `time`, and the one that was left first if there are too many. */
  function forgetLeft(time: number) {
    for (const channel of lingering) {
      if (channel.leftAt > time && lingering.size <= MAX_LINGERING) return
      lingering.delete(channel)
      channels.delete(channel.projectId)
    }
  }

  function lose(channel: Channel) {
    channel.lost = true
    channels.delete(channel.projectId)
    lingering.delete(channel)
    for (const subscriber of channel.subscribers) subscriber.fail(new LostPositionError())
  }

  function read(channel: Channel, after: number): Promise<Entry[]> {
    const recent = channel.ring.after(after)
    if (recent) return Promise.resolve(recent)
    // Only who knows of the same head may share the answer: it has everything up to there.
    const key = `${after} ${channel.head}`
    let reading = channel.reads.get(key)
    if (!reading) {
      reading = log
        .read(channel.projectId, after, PAGE)
        .then(page => {
          channel.ring.extendBack(page, channel.head!)
          return page
        })
        .finally(() => channel.reads.delete(key))
      channel.reads.set(key, reading)
    }
    return reading
  }

  /** Whether the log goes on right after `seq`: the next entry is there and no block that was compacted over it. */
  async function continuesAfter(channel: Channel, seq: number): Promise<boolean> {
    for (let looks = 0; looks < 2; looks++) {
      if (seq === channel.head) return true
      const [next] = await read(channel, seq)
      if (next) return firstOf(next) === seq + 1
      const head = (await log.heads([channel.projectId])).get(channel.projectId) ?? 0
      if (head <= seq) return head === seq
      // Written between the two looks, or gone.
    }
    return false
  }

  return {
    deliver,
    hint,
    catchUp,
    async subscribe(projectId, after) {
      const channel = await open(projectId)
      try {
        if (after !== null && !(await continuesAfter(channel, after))) {
          leave(channel)
          return null
        }
      } catch (error) {
        leave(channel)
        throw error
      }
      let subscriber: Subscriber | null = null
      const from = after ?? channel.head!
      let closed = false
      return {
        from,
        start(sink, onError) {
          if (closed) return
          if (channel.lost) return onError(new LostPositionError())
          const source = { head: () => channel.head!, read: (seq: number) => read(channel, seq) }
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

    reset() {
      for (const channel of [...channels.values()]) lose(channel)
    },

    close() {
      clearInterval(poll)
    },
  }
}

const newChannel = (projectId: string): Channel => ({
  projectId,
  head: null,
  known: 0,
  ring: createRing(),
  catchingUp: null,
  opening: null,
  reads: new Map(),
  readers: 0,
  subscribers: new Set(),
  leftAt: 0,
  lost: false,
})
