import type { Language } from '../words.ts'

export interface SentenceHolder {
  /** The sentences that are now complete, each with the white space that follows it. */
  push(delta: string): string[]
  /** The rest, in sentences as far as it has any. The holder may be used on. */
  flush(): string[]
  /** What has been pushed and not been given back. */
  held(): string
}

/** A tail without a break is released at this length (UTF-16 units), so that held text is bounded. */
const MAX_TAIL = 2_000
const LOOK_BACK = 64
const MAX_QUOTATION = 200

// "It is cut. 3 clips are left.": the segmenter sees a number as no beginning when small letters follow.
const BEFORE_NUMBER = /(?<=[\p{L}\d)]{2}\.\s)(?=\d)/u

const segmenters = {
  en: new Intl.Segmenter('en', { granularity: 'sentence' }),
  zh: new Intl.Segmenter('zh', { granularity: 'sentence' }),
}

/**
 * Holds streamed text back until a sentence is complete. A sentence is complete when the next one has
 * begun or a line has ended; so whoever pushes also flushes when the text pauses (a tool call, the end).
 */
export function createSentenceHolder(language: Language): SentenceHolder {
  let tail = ''
  return {
    push(delta) {
      const pending = tail.slice(-LOOK_BACK) + delta
      tail += delta
      // Segmenting the tail at every delta would be quadratic in the sentence.
      const sentences = mayBreak(pending) ? sentencesOf(tail, language) : [tail]
      const last = sentences.at(-1) ?? ''
      const lineEnded = last.endsWith('\n') && !continues(last)
      tail = lineEnded ? '' : last
      if (!lineEnded) sentences.pop()
      if (sentences.length > 0 || tail.length <= MAX_TAIL) return sentences
      const piece = wholeCharacters(tail)
      tail = tail.slice(piece.length)
      return [piece]
    },
    flush() {
      const rest = sentencesOf(tail, language)
      tail = ''
      return rest
    },
    held: () => tail,
  }
}

/** The sentences of a text, each with the white space that follows it; joined they are the text. */
export function sentencesOf(text: string, language: Language): string[] {
  const sentences: string[] = []
  let open = ''
  for (const { segment } of segmenters[language].segment(text)) {
    for (const part of segment.split(BEFORE_NUMBER)) {
      open += part
      if (continues(open)) continue
      sentences.push(open)
      open = ''
    }
  }
  if (open !== '') sentences.push(open)
  return sentences
}

function mayBreak(text: string): boolean {
  return /[.!?…\n\r\u2028\u2029。．｡！？]/.test(text)
}

/** Whether a segment that ends like this goes on in the next one, although the segmenter breaks there. */
function continues(text: string): boolean {
  const end = text.slice(-LOOK_BACK)
  if (/\n\s*$/.test(end)) return false
  return (
    quotes(text) ||
    /(?:\.\.\.|…)["'”’)\]]*\s*$/.test(end) ||
    /(?:^|[\s("'“‘[])(?:Dr|Mr|Mrs|Ms|Prof|St|vs|e\.g|i\.e|approx|ca|min|max|Fig|No|Vol|ver|Inc|Ltd|Jr|Sr|[A-Z])\.\s*$/i.test(
      end,
    ) ||
    /(?:^|\n)\s*\d{1,3}[.)]\s*$/.test(end)
  )
}

/** Whether a quotation is open: what it says is not ours to read. A mark left open by mistake is given up soon. */
function quotes(text: string): boolean {
  const opened = text.lastIndexOf('“')
  if (opened > text.lastIndexOf('”')) return text.length - opened < MAX_QUOTATION
  const last = text.lastIndexOf('"')
  return last >= 0 && text.length - last < MAX_QUOTATION && text.split('"').length % 2 === 0
}

// Half of a surrogate pair is not a character yet.
function wholeCharacters(text: string): string {
  const last = text.charCodeAt(text.length - 1)
  return last >= 0xd800 && last <= 0xdbff ? text.slice(0, -1) : text
}
