const QUOTE = 34
const BACKSLASH = 92

/**
 * The exact source text of the value at `path` in a JSON document of objects, or null when there is no such
 * member. A repeated key counts by its last one, as in JSON.parse. Linear, without recursion; never throws.
 * The draft must reach the render byte for byte, and parsing would lose long numbers (upstream-contract §3).
 */
export function rawMember(json: string, path: string[]): string | null {
  let start = skipSpace(json, 0)
  let end = json.length
  for (const name of path) {
    const range = lastMember(json, start, name)
    if (range === null) return null
    start = range.start
    end = range.end
  }
  const text = path.length === 0 ? json.slice(start).trimEnd() : json.slice(start, end)
  return text === '' ? null : text
}

function lastMember(json: string, objectStart: number, name: string): { start: number; end: number } | null {
  if (json[objectStart] !== '{') return null
  let found: { start: number; end: number } | null = null
  let at = skipSpace(json, objectStart + 1)
  while (json.charCodeAt(at) === QUOTE) {
    const keyEnd = skipString(json, at)
    const colon = skipSpace(json, keyEnd)
    if (json[colon] !== ':') return null
    const start = skipSpace(json, colon + 1)
    const end = skipValue(json, start)
    if (end <= start) return null
    if (keyIs(json.slice(at, keyEnd), name)) found = { start, end }
    at = skipSpace(json, end)
    if (json[at] === '}') return found
    if (json[at] !== ',') return null
    at = skipSpace(json, at + 1)
  }
  return null
}

function keyIs(quoted: string, name: string): boolean {
  if (!quoted.includes('\\')) return quoted.slice(1, -1) === name
  try {
    return JSON.parse(quoted) === name
  } catch {
    return false
  }
}

function skipSpace(json: string, at: number): number {
  while (at < json.length && ' \t\n\r'.includes(json[at]!)) at++
  return at
}

/** The index after the string that opens at `at`; the end of the text when it never closes. */
function skipString(json: string, at: number): number {
  for (let i = at + 1; i < json.length; i++) {
    const code = json.charCodeAt(i)
    if (code === BACKSLASH) i++
    else if (code === QUOTE) return i + 1
  }
  return json.length
}

function skipValue(json: string, at: number): number {
  const first = json[at]
  if (first === '"') return skipString(json, at)
  if (first !== '{' && first !== '[') {
    while (at < json.length && !',}] \t\n\r'.includes(json[at]!)) at++
    return at
  }
  let depth = 0
  while (at < json.length) {
    const char = json[at]
    if (char === '"') {
      at = skipString(json, at)
      continue
    }
    at++
    if (char === '{' || char === '[') depth++
    else if ((char === '}' || char === ']') && --depth === 0) return at
  }
  return at
}
