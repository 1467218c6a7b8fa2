/** The part of JSON Patch (RFC 6902) that `STATE_DELTA` uses: test, add, remove, replace. */
import { isDeepStrictEqual } from 'node:util'

export type Operation =
  | { op: 'test' | 'add' | 'replace'; path: string; value: unknown }
  | { op: 'remove'; path: string }

/** Returns a patched copy. Throws at the first operation that cannot be applied; `document` is never changed. */
export function applyPatch(document: unknown, operations: readonly Operation[]): unknown {
  return operations.reduce<unknown>((patched, operation) => {
    const { op, path } = operation
    if (op !== 'test' && op !== 'add' && op !== 'remove' && op !== 'replace') {
      throw new Error(`this client does not know the operation ${JSON.stringify(op)}`)
    }
    if (path !== '' && !path.startsWith('/')) throw new Error(`${JSON.stringify(path)} is no JSON pointer`)
    const keys = path.split('/').slice(1)
    return change(
      patched,
      keys.map(key => key.replaceAll('~1', '/').replaceAll('~0', '~')),
      operation,
    )
  }, document)
}

function change(node: unknown, keys: readonly string[], operation: Operation): unknown {
  const [key, ...rest] = keys
  if (key === undefined) return changeHere(node, operation)
  const last = rest.length === 0
  const adds = last && operation.op === 'add'
  const removes = last && operation.op === 'remove'

  if (Array.isArray(node)) {
    const index = indexOf(key, adds ? node.length : node.length - 1, adds, operation)
    if (adds) return node.toSpliced(index, 0, operation.value)
    if (removes) return node.toSpliced(index, 1)
    return node.with(index, change(node[index], rest, operation))
  }
  if (typeof node !== 'object' || node === null) throw missing(operation)
  if (!adds && !Object.hasOwn(node, key)) throw missing(operation)
  // Entries, and not an assignment: a patch that names __proto__ gets a plain property.
  const entries = new Map<string, unknown>(Object.entries(node))
  if (removes) entries.delete(key)
  else entries.set(key, adds ? operation.value : change(entries.get(key), rest, operation))
  return Object.fromEntries(entries)
}

function changeHere(node: unknown, operation: Operation): unknown {
  if (operation.op === 'remove') throw new Error('the whole document cannot be removed')
  if (operation.op === 'test' && !isDeepStrictEqual(node, operation.value)) {
    throw new Error(`test failed at ${JSON.stringify(operation.path)}: the copy has drifted`)
  }
  return operation.op === 'test' ? node : operation.value
}

function indexOf(key: string, max: number, mayAppend: boolean, operation: Operation): number {
  if (key === '-' && mayAppend) return max
  if (!/^(0|[1-9]\d{0,8})$/.test(key) || Number(key) > max) throw missing(operation)
  return Number(key)
}

function missing({ op, path }: Operation): Error {
  return new Error(`${op} ${JSON.stringify(path)}: there is no such place`)
}
