export interface VideoFacts {
  /** seconds */
  duration: number
  width: number
  height: number
}

/** What the `moov` box at the beginning of an MP4 or MOV says, null when it is not there. */
export function readMp4(head: Buffer): VideoFacts | null {
  const moov = child(head, 'moov')
  const mvhd = moov && child(moov, 'mvhd')
  if (!moov || !mvhd || mvhd.length < 32) return null
  const long = mvhd[0] === 1
  const scale = mvhd.readUInt32BE(long ? 20 : 12)
  const ticks = long ? Number(mvhd.readBigUInt64BE(24)) : mvhd.readUInt32BE(16)
  for (const trak of children(moov, 'trak')) {
    const tkhd = child(trak, 'tkhd')
    if (!tkhd || tkhd.length < 84) continue
    // 16.16 fixed point, the last eight bytes
    const width = tkhd.readUInt16BE(tkhd.length - 8)
    const height = tkhd.readUInt16BE(tkhd.length - 4)
    if (width > 0 && scale > 0) return { duration: ticks / scale, width, height }
  }
  return null
}

function child(box: Buffer, type: string): Buffer | null {
  return children(box, type).next().value ?? null
}

function* children(box: Buffer, type: string): Generator<Buffer, undefined> {
  let at = 0
  while (at + 8 <= box.length) {
    const size = box.readUInt32BE(at)
    if (size < 8) return
    if (box.toString('latin1', at + 4, at + 8) === type) yield box.subarray(at + 8, at + size)
    at += size
  }
}
