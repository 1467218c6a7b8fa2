/** How the demo tells its story: plain lines, and in a terminal one line at the bottom that is redrawn. */
import { stripVTControlCharacters, styleText } from 'node:util'
import type { Track } from './api.ts'

type Style = Parameters<typeof styleText>[0]

export type Terminal = ReturnType<typeof createTerminal>

export function createTerminal(out: NodeJS.WriteStream, env: NodeJS.ProcessEnv = process.env) {
  const live = out.isTTY === true && env.TERM !== 'dumb'
  const colour = live && !env.NO_COLOR
  let shown = ''

  const paint = (style: Style, text: string) =>
    colour ? styleText(style, text, { validateStream: false }) : text

  function line(text: string) {
    out.write(`${live && shown ? '\r\x1b[2K' : ''}${text}\n`)
    shown = ''
  }

  return {
    title: (text: string) => line(paint('bold', clean(text))),
    step: (text: string) => line(`\n${paint('bold', clean(text))}`),
    done: (text: string) => line(`  ${paint('green', '✓')} ${clean(text)}`),
    note: (text: string) => line(`  ${paint('dim', clean(text))}`),
    timeline: (text: string) => line(`  ${paint('cyan', '▸')} ${clean(text)}`),
    said: (text: string) => line(`  ${paint('magenta', '“')}${clean(text)}${paint('magenta', '”')}`),
    failed: (text: string) => line(`\n${paint('red', '✗')} ${clean(text)}`),

    /** What is going on at this moment: redrawn in place in a terminal, elsewhere a line each time it differs. */
    progress(text: string) {
      const next = clean(text)
      if (next === shown) return
      if (live) out.write(`\r\x1b[2K  ${paint('dim', `… ${next.slice(0, (out.columns || 80) - 6)}`)}`)
      else out.write(`  … ${next}\n`)
      shown = next
    },
  }
}

/** What the gateway sent is data: an escape sequence in it must not reach the terminal. */
function clean(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/[\p{Cc}\p{Bidi_C}]+/gu, ' ')
    .trim()
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

export function kilobytes(bytes: number): string {
  return `${Math.ceil(bytes / 1000)} kB`
}

/** Tracks on one line: `video clip.mp4 (0.0–4.0 s) · text “Urban Dreams” (0.0–3.0 s)`. */
export function describe(tracks: readonly Track[]): string {
  const segment = ({ startMs, durationMs, title, text }: Track['segments'][number]) => {
    const name = text ? `“${text}” ` : title ? `${title} ` : ''
    return `${name}(${(startMs / 1000).toFixed(1)}–${seconds(startMs + durationMs)})`
  }
  const described = tracks.map(track => `${track.kind} ${track.segments.map(segment).join(', ')}`)
  return described.join(' · ') || 'an empty timeline'
}
