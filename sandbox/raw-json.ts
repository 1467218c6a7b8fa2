/**
 * The text of one member of a JSON object, exactly as it stands there; null when it is absent. `text` must
 * be valid JSON (parse it first). Of a repeated key the last one counts, as for JSON.parse.
 */
export function rawMember(text: string, key: string): string | null {
  let at = skipBlank(text, text.indexOf('{') + 1)
  let found: string | null = null
  while (text[at] === '"') {
    const nameEnd = skipValue(text, at)
    const name: unknown = JSON.parse(text.slice(at, nameEnd))
    const start = skipBlank(text, skipBlank(text, nameEnd) + 1)
    const end = skipValue(text, start)
    if (name === key) found = text.slice(start, end)
    at = skipBlank(text, end)
    if (text[at] !== ',') break
    at = skipBlank(text, at + 1)
  }
  return found
}

function skipBlank(text: string, at: number) {
  while (' \t\r\n'.includes(text[at] ?? 'x')) at += 1
  return at
}

/** The position after the value that begins at `at`. */
function skipValue(text: string, at: number) {
  let depth = 0
  while (at < text.length) {
    const char = text[at]!
    if (char === '"') {
      at = skipString(text, at)
      if (depth === 0) return at
      continue
    }
    if (depth === 0 && ',}] \t\r\n'.includes(char)) return at
    if (char === '{' || char === '[') depth += 1
    if (char === '}' || char === ']') depth -= 1
    at += 1
    if (depth === 0 && (char === '}' || char === ']')) return at
  }
  return at
}

function skipString(text: string, at: number) {
  at += 1
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1
  return at + 1
}
