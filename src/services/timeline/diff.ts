export type JsonPatchOp =
  | { op: 'add' | 'replace' | 'test'; path: string; value: unknown }
  | { op: 'remove'; path: string }
  | { op: 'move'; from: string; path: string }

/**
 * An RFC 6902 patch that turns `before` into `after`; both are JSON values, of bounded depth. Arrays are
 * matched by what they have in common at both ends, which keeps the work linear where a shortest patch
 * would take a second and block the process.
 */
export function diffState(before: unknown, after: unknown): JsonPatchOp[] {
  const ops: JsonPatchOp[] = []
  compare('', before, after, ops)
  return ops
}

function compare(path: string, before: unknown, after: unknown, ops: JsonPatchOp[]): void {
  if (before === after) return
  if (Array.isArray(before) && Array.isArray(after)) compareArrays(path, before, after, ops)
  else if (isObject(before) && isObject(after)) compareObjects(path, before, after, ops)
  else ops.push({ op: 'replace', path, value: after })
}

function compareObjects(path: string, before: JsonObject, after: JsonObject, ops: JsonPatchOp[]): void {
  for (const key of Object.keys(before))
    if (!Object.hasOwn(after, key)) ops.push({ op: 'remove', path: `${path}/${escaped(key)}` })
  for (const [key, value] of Object.entries(after)) {
    const place = `${path}/${escaped(key)}`
    if (Object.hasOwn(before, key)) compare(place, before[key], value, ops)
    else ops.push({ op: 'add', path: place, value })
  }
}

function compareArrays(path: string, before: unknown[], after: unknown[], ops: JsonPatchOp[]): void {
  const [head, tail] = commonEnds(before, after, 0, 0, equal)
  const last = before.length - tail - 1
  if (before.length === after.length) {
    if (last > head && rotated(before, after, head, last))
      ops.push({ op: 'move', from: `${path}/${head}`, path: `${path}/${last}` })
    else if (last > head && rotated(after, before, head, last))
      ops.push({ op: 'move', from: `${path}/${last}`, path: `${path}/${head}` })
    else for (let i = head; i <= last; i++) compare(`${path}/${i}`, before[i], after[i], ops)
    return
  }
  // An inserted clip shifts the start of every later one: pair those that are nearly the same.
  const [start, end] = commonEnds(before, after, head, tail, alike)
  const removed = before.length - start - end
  const added = after.length - start - end
  const paired = Math.min(removed, added)
  for (let i = head; i < start + paired; i++) compare(`${path}/${i}`, before[i], after[i], ops)
  for (let i = paired; i < removed; i++) ops.push({ op: 'remove', path: `${path}/${start + paired}` })
  for (let i = paired; i < added; i++)
    ops.push({ op: 'add', path: `${path}/${start + i}`, value: after[start + i] })
  for (let i = end; i > tail; i--)
    compare(`${path}/${after.length - i}`, before[before.length - i], after[after.length - i], ops)
}

/** How many elements match at the front and at the back, given how many are known to. */
function commonEnds(a: unknown[], b: unknown[], head: number, tail: number, same: typeof equal) {
  const shorter = Math.min(a.length, b.length)
  while (head + tail < shorter && same(a[head], b[head])) head++
  while (head + tail < shorter && same(a[a.length - 1 - tail], b[b.length - 1 - tail])) tail++
  return [head, tail] as const
}

/** Whether the window of `b` is that of `a` with its first element put last. */
function rotated(a: unknown[], b: unknown[], first: number, last: number): boolean {
  if (!equal(a[first], b[last])) return false
  for (let i = first; i < last; i++) if (!equal(a[i + 1], b[i])) return false
  return true
}

function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (Array.isArray(a))
    return Array.isArray(b) && a.length === b.length && a.every((value, i) => equal(value, b[i]))
  if (!isObject(a) || !isObject(b)) return false
  const keys = Object.keys(a)
  return (
    keys.length === Object.keys(b).length && keys.every(key => Object.hasOwn(b, key) && equal(a[key], b[key]))
  )
}

/** Objects that share more than half of their fields. */
function alike(a: unknown, b: unknown): boolean {
  if (!isObject(a) || !isObject(b)) return false
  const keys = Object.keys(a)
  const shared = keys.filter(key => Object.hasOwn(b, key) && equal(a[key], b[key])).length
  return shared * 2 > Math.max(keys.length, Object.keys(b).length)
}

type JsonObject = Record<string, unknown>

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function escaped(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1')
}
