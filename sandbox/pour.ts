import type { ServerResponse } from 'node:http'
import { forever, until } from './clock.ts'
import type { Fault } from './fault.ts'
import { createFrameWriter, data, disguise, heartbeat, isHeartbeat } from './stream.ts'

interface Options {
  fault: Fault | null
  signal: AbortSignal
  /** called when the run is over, before the client can know it */
  over: () => void
}

/** Writes a run's frames to the response, and lets the fault happen at its frame. */
export async function pour(
  res: ServerResponse,
  frames: AsyncGenerator<string>,
  { fault, signal, over }: Options,
) {
  const trouble = fault && 'frames' in fault ? (fault.frames ?? 0) : 0
  const mute = fault?.answer === 'no_frames'
  let count = 0
  let happened = false
  const happen = async (next: string) => {
    happened = true
    return fault ? misbehave(res, fault, next, { signal, over }) : 'on'
  }
  res.flushHeaders()
  if (fault?.answer === 'framing' && fault.framing === 'bom') res.write('\ufeff')
  for await (const chunk of frames) {
    if (signal.aborted) return
    if (mute) continue
    if (!isHeartbeat(chunk)) {
      if (!happened && count === trouble && (await happen(chunk)) === 'stop') return
      count += 1
    }
    if (signal.aborted) return
    res.write(disguise(chunk, fault))
  }
  if (!happened && !mute && (await happen(data('{"content":{}}'))) === 'stop') return
  if (signal.aborted) return
  over()
  if (fault?.answer === 'trailing_issue') {
    res.write(createFrameWriter().text('I encountered a temporary issue', { partial: false }))
  }
  res.end()
}

async function misbehave(
  res: ServerResponse,
  fault: Fault,
  next: string,
  { signal, over }: { signal: AbortSignal; over: () => void },
): Promise<'on' | 'stop'> {
  switch (fault.answer) {
    case 'cut': {
      const half = next.slice(0, Math.ceil(next.length / 2))
      if (fault.how === 'end') res.end(half)
      else {
        await new Promise(resolve => res.write(half, resolve))
        // An RST throws away what the other side has not read yet.
        await until(Date.now() + 25, signal)
        if (fault.how === 'rst') res.socket?.resetAndDestroy()
        else res.socket?.destroy()
      }
      return 'stop'
    }
    case 'silence':
      await (fault.ms === undefined ? forever(signal) : until(Date.now() + fault.ms, signal))
      return 'on'
    case 'heartbeats': {
      const end = Date.now() + (fault.ms ?? Number.POSITIVE_INFINITY)
      for (let beats = 0; !signal.aborted && Date.now() < end; beats++) {
        res.write(heartbeat(beats))
        await until(Date.now() + (fault.everyMs ?? 1000), signal)
      }
      return 'on'
    }
    case 'error_frame': {
      const { spelling = 'code', code = 'RESOURCE_EXHAUSTED', message = 'Quota exceeded' } = fault
      over()
      res.end(createFrameWriter().error(spelling, code, message))
      return 'stop'
    }
    case 'bad_frame':
      res.write(data(fault.data ?? '{"content":{"parts":[{"text":"half'))
      return 'on'
    case 'huge_frame':
      res.write(data(JSON.stringify({ content: { role: 'model', parts: [{ x: 'x'.repeat(fault.bytes) }] } })))
      return 'on'
    default:
      return 'on'
  }
}
