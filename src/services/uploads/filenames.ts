const MAX_LABEL = 255
const MAX_STEM_BYTES = 180
/** Controls, line breaks, and the marks that make `4pm.exe` look like `exe.mp4`. */
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\u200b\u2060\ufeff\u{e0000}-\u{e007f}]/gu
/** Names that mean a device on Windows, whatever follows the dot. */
const DEVICE = /^(con|prn|aux|nul|com\d|lpt\d)$/i

/**
 * A client's file name as a label: never a path, nothing that hides (controls, direction marks), at most 255 characters with the extension kept. `fallback` when nothing is left.
 */
export function labelOf(filename: string, fallback = 'file'): string {
  const name = filename
    .toWellFormed()
    .split(/[/\\]/)
    .at(-1)!
    .replace(HIDDEN, '')
    .replace(/\s+/g, ' ')
    .replace(/^[. ]+|(?<![. ])[. ]+$/g, '')
  const { stem, extension } = parts(name || fallback)
  const room = MAX_LABEL - extension.length
  return stem.slice(0, room).toWellFormed() + extension
}

/**
 * The name that the upstream is told. It is the label, because the upstream shows names and people speak of their
 * files by name, without what means something in a header, a shell or a file system, and short enough for one.
 */
export function upstreamName(label: string, extension: string): string {
  const safe = parts(label)
    .stem.replace(/["'`%<>:|?*;$&~^{}[\]]/g, '_')
    .replace(/^[-_. ]+/, '')
  const stem = cutToBytes(safe, MAX_STEM_BYTES)
  return `${stem === '' || DEVICE.test(stem.split('.')[0]!.trim()) ? `upload_${stem}` : stem}.${extension}`
}

/** What a file behind an address is called. The query, which may carry a secret, is left out. */
export function nameInUrl(url: string): string {
  const name = URL.parse(url)?.pathname.split('/').at(-1) ?? ''
  return labelOf(decode(name), 'link')
}

function decode(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}

function parts(name: string): { stem: string; extension: string } {
  const extension = /\.[A-Za-z0-9]{1,8}$/.exec(name)?.[0] ?? ''
  return { stem: name.slice(0, name.length - extension.length), extension }
}

function cutToBytes(text: string, bytes: number): string {
  let kept = ''
  let left = bytes
  for (const character of text) {
    left -= Buffer.byteLength(character)
    if (left < 0) break
    kept += character
  }
  return kept.trimEnd()
}
