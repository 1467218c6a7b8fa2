export interface TextAssembler {
  /** The new visible text that a text meaning brings; often `''`. */
  push(text: string, partial: boolean): string
  /** A tool's result ends the model's turn: what follows is no repetition of what came before. */
  turnEnded(): void
  /** At the end of the run: what was held back and is to be shown after all. */
  finish(): string
  /** Whether "a temporary issue" was all that was said: then it is no noise but an error. */
  troubled(): boolean
}

const NOISE = 'i encountered a temporary issue'
const WHOLE_NOISE = new RegExp(NOISE, 'gi')
const MAX_NOISE = 300

/**
 * Joins partial and whole texts of one run so that with and without streaming the same text is shown
 * (upstream-contract §0.4). What was shown stays: a whole text adds only what goes beyond its partials.
 *
 * "I encountered a temporary issue" at the end is never shown: after normal text it is noise (§2.4), alone an error
 * that is told in our own words. A tail that is or may become it is held back, up to 300 characters, and shown when
 * more text follows, in this turn beyond those or in a later one.
 */
export function createTextAssembler(): TextAssembler {
  let turn = ''
  let held = ''
  let lastShown = ''
  let shownAny = false
  let turnOver = false

  function push(text: string, partial: boolean): string {
    if (partial) {
      turn += text
      return show(text)
    }
    const visible = show(beyond(turn, text))
    turnEnded()
    return visible
  }

  function show(text: string): string {
    let visible = ''
    if (text.trim() !== '') {
      if (turnOver) {
        visible = held
        held = ''
      }
      turnOver = false
    }
    held += text
    const before = visible === '' ? lastShown : visible.slice(-1)
    const at = noiseStart(before, held)
    visible += held.slice(0, at)
    held = held.slice(at)
    shownAny ||= visible.trim() !== ''
    lastShown = visible.slice(-1) || lastShown
    return visible
  }

  function turnEnded() {
    turn = ''
    turnOver = true
  }

  const isNoise = () => held.length >= NOISE.length

  return {
    push,
    turnEnded,
    finish: () => (isNoise() ? '' : held),
    troubled: () => !shownAny && isNoise(),
  }
}

/**
 * Where the noise, or at the very end the beginning of it, starts in `text`; the end of `text` when it does not.
 * It stands at the beginning of a word (`before` is the character before `text`).
 */
function noiseStart(before: string, text: string): number {
  const startsWord = (at: number) => !/[\p{L}\p{N}'’]/u.test(at === 0 ? before : text[at - 1]!)
  const from = Math.max(0, text.length - MAX_NOISE)
  for (const { index } of text.slice(from).matchAll(WHOLE_NOISE))
    if (startsWord(from + index)) return from + index
  for (let at = Math.max(from, text.length - NOISE.length + 1); at < text.length; at++)
    if (NOISE.startsWith(text.slice(at).toLowerCase()) && startsWord(at)) return at
  return text.length
}

/** The part of a whole text that its partials did not say yet. */
function beyond(said: string, whole: string): string {
  if (said === '') return whole
  if (whole.startsWith(said)) return whole.slice(said.length)
  if (said.trimEnd().endsWith(whole.trimEnd())) return ''
  const rest = beyondSpacing(said, whole)
  // Another text than the partials announced. Losing it would be worse than showing both.
  return rest ?? `\n\n${whole}`
}

/** As `beyond`, where the two differ in white space only; null when they differ otherwise. */
function beyondSpacing(said: string, whole: string): string | null {
  let at = 0
  for (const character of said.replace(/\s+/g, '')) {
    while (at < whole.length && /\s/.test(whole[at]!)) at++
    if (!whole.startsWith(character, at)) return null
    at += character.length
  }
  return /\s$/.test(said) ? whole.slice(at).trimStart() : whole.slice(at)
}
