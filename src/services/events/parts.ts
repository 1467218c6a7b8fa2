import type { Entry } from './event.ts'

const MAX_CHARACTERS = 256 * 1024

const parts = new WeakMap<Entry[], Entry[][]>()

/**
 * What may be given to a reader at once: a block as it is or, when it is too large to be held for a reader that does
 * not take it, in parts. A larger entry is a part by itself. Whoever has the same block gets the same parts.
 */
export function inParts(block: Entry[]): Entry[][] {
  const known = parts.get(block)
  if (known) return known
  const cut = cutUp(block)
  if (cut.length > 1) parts.set(block, cut)
  return cut
}

function cutUp(block: Entry[]): Entry[][] {
  const cut: Entry[][] = []
  let begin = 0
  let characters = 0
  for (const [i, { chunk }] of block.entries()) {
    characters += chunk.length
    if (characters <= MAX_CHARACTERS || i === begin) continue
    cut.push(block.slice(begin, i))
    begin = i
    characters = chunk.length
  }
  return begin === 0 ? [block] : [...cut, block.slice(begin)]
}
