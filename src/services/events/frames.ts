import { type Entry, encodeCursor } from './event.ts'

const built = new WeakMap<Entry, string>()

/** The entry as every reader gets it, in JSON. Built once however many readers there are. */
export function entryFrame(entry: Entry, epoch: string): string {
  let frame = built.get(entry)
  if (frame === undefined) {
    const run = entry.runId ? `"runId":"${entry.runId}",` : ''
    frame = `{"id":"${encodeCursor(epoch, entry.projectId, entry.seq)}","seq":${entry.seq},"projectId":"${entry.projectId}",${run}"at":"${entry.at.toISOString()}","chunk":${entry.chunk}}`
    built.set(entry, frame)
  }
  return frame
}

/** The same for Server-Sent Events: LF only, the cursor as the id that a browser sends back when it reconnects. */
export function sseFrame(entry: Entry, epoch: string): string {
  return `id: ${encodeCursor(epoch, entry.projectId, entry.seq)}\ndata: ${entryFrame(entry, epoch)}\n\n`
}
