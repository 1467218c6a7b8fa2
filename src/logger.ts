import { readFileSync } from 'node:fs'
import { pino } from 'pino'
import { guard } from './scrub.ts'

export const VERSION = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version

/** pino on standard output. The last net is in the stream: field names and error texts cannot get around it. */
export function createLogger(level: string) {
  guard(process.stdout)
  const serializers = { err: describeError }
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers }, { write })
}

/** A failed statement names its values, and those are what users wrote. */
export function describeError(error: Error) {
  const { query, params, ...described } = pino.stdSerializers.err(error) as Record<string, unknown>
  for (const field of ['message', 'stack'])
    described[field] = String(described[field]).replace(/\nparams: [\s\S]*?(?=\n {4}at |$)/, '')
  return described
}

let pending = ''

/** A write to a pipe blocks the loop, so the lines of one turn go together. */
function write(line: string) {
  if (pending === '') setImmediate(flush)
  pending += line
}

function flush() {
  if (pending === '') return
  process.stdout.write(pending)
  pending = ''
}

process.on('exit', flush)
