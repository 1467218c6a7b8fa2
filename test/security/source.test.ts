/** Reads the source for two habits that no other test would notice until it is too late. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the strings are examples of source
import { glob, readFile } from 'node:fs/promises'
import t from 'tap'

const ROOT = new URL('../../', import.meta.url).pathname

async function sources(): Promise<Map<string, string>> {
  const files = new Map<string, string>()
  for await (const path of glob('src/**/*.ts', { cwd: ROOT }))
    files.set(path, await readFile(ROOT + path, 'utf8'))
  return files
}

const OPERAND = String.raw`[\w$.!?]*?(?:[tT]oken|[sS]ecret|[sS]ig|[sS]ignature|[hH]ash|HASH|TOKEN|SECRET)!?\b(?![.(])`
const HARMLESS = String.raw`(?:null|undefined|''|true|false|\d+)\b|''`
const COMPARED = new RegExp(
  String.raw`(?:${OPERAND}\s*[!=]==\s*(?!${HARMLESS})\S+|[\w'"$.)\]]+\s*[!=]==\s*${OPERAND})`,
)

/** Lines that compare a secret in a time that tells how much of it was right. */
const comparisons = (source: string) =>
  source.split('\n').filter(line => {
    const code = line
      .replace(/\/\/.*|^\s*\*.*/, '')
      .replace(/(?:null|undefined)\s*[!=]==\s*\S+|typeof \S+ [!=]==/g, '')
    return COMPARED.test(code)
  })

const VERB = ['select', 'insert', 'update', 'delete', 'listen', 'notify', 'alter', 'create', 'drop', 'grant']
  .flatMap(verb => [verb, verb.toUpperCase()])
  .join('|')
const STATEMENT = new RegExp(
  String.raw`(?<!sql|sql<[^\x60]*>)\x60\s*(?:${VERB})\s[^\x60]*\$\{|(['"])(?:${VERB})\s[^'"\n]*\1\s*\+|sql\.raw\(`,
  'g',
)
const QUOTED = /\$\{[\w.]*escapeIdentifier\(\w+\)\}/g

/** A partition's bounds take no parameters: there a date of ours is written out. */
const BUILT_ON_PURPOSE = new Map([['src/db/event-days.ts', 1]])

/** Statements that are put together from text; values belong in parameters. */
const builtStatements = (source: string) => source.replace(QUOTED, '').match(STATEMENT) ?? []

t.test('secrets are compared by timingSafeEqual, or looked up by their hash', async t => {
  for (const line of [
    'if (token === expected) return',
    'return sent === config.opsToken',
    'if (request.headers.signature !== signature)',
    "if (hash(token).toString('hex') === row.tokenHash) {",
    '  a.secret!== b.secret',
  ])
    t.equal(comparisons(line).length, 1, line)
  for (const line of [
    'if (token === null) return',
    'secret.length !== 32',
    'signal.reason !== TIMED_OUT',
    "typeof token === 'string'",
    '// a token === b token',
  ])
    t.equal(comparisons(line).length, 0, line)
  for (const [path, source] of await sources()) t.same(comparisons(source), [], path)
})

t.test('no statement is built from text', async t => {
  for (const line of [
    'pool.query(`select * from users where id = ${id}`)',
    "pool.query('delete from users where id = ' + id)",
    'sql.raw(filter)',
    'const text = `\n  update runs set state = ${state}`',
  ])
    t.equal(builtStatements(line).length, 1, line)
  for (const line of [
    'db.execute(sql`select * from users where id = ${id}`)',
    'db.execute<{ id: string }>(sql<string>`select ${id}`)',
    'client.query(`listen ${client.escapeIdentifier(channel)}`)',
    'throw new Error(`Set ${name} first`)',
  ])
    t.equal(builtStatements(line).length, 0, line)
  for (const [path, source] of await sources())
    t.equal(builtStatements(source).length, BUILT_ON_PURPOSE.get(path) ?? 0, path)
})
