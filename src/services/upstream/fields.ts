export type JsonObject = Record<string, unknown>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * The first of `names` that is an own member with a value; `undefined` when there is none. Names are tried in
 * order, so a caller lists the spelling of the contract first and its twins after it (upstream-contract §4).
 */
export function field(value: unknown, ...names: string[]): unknown {
  if (!isObject(value)) return undefined
  for (const name of names) {
    if (!Object.hasOwn(value, name)) continue
    const found = value[name]
    if (found !== undefined && found !== null) return found
  }
  return undefined
}

/** Makes upstream text safe to store: no lone surrogates and no NUL, both of which Postgres refuses. */
export function cleanText(text: string): string {
  return text.toWellFormed().replaceAll('\0', '')
}

/** A string member, cleaned; `null` when it is missing, empty or of another type. */
export function textField(value: unknown, ...names: string[]): string | null {
  const found = field(value, ...names)
  return typeof found === 'string' ? cleanText(found) || null : null
}

/** A finite, non-negative number; numeric strings count. `null` otherwise. */
export function amountField(value: unknown, ...names: string[]): number | null {
  const found = field(value, ...names)
  const number = typeof found === 'string' && found.trim() !== '' ? Number(found) : found
  return typeof number === 'number' && Number.isFinite(number) && number >= 0 ? number : null
}
