/** What must not leave the process: known by its shape, or because it was configured. Everything printed passes here. */

// No word boundary before them: in a line of JSON a token at the start of a text's line follows `\\n`.
const SHAPES =
  /(nmv_usr_|clm_|\brgt?_|rgt?_(?=[\w-]{43}))[\w-]+|Bearer(?:\s|%20|\+)+[^\s"\\&]+|(postgres(?:ql)?:\/\/[^:@/\s"]*):[^\s"]{0,1000}@/gi
/** A text may hold any word; only what cannot be one is taken out of it. */
const CREDENTIALS = /(nmv_usr_|(?:clm_|rgt?_)(?=[\w-]{16}))[\w-]+/g
/** A shorter value may be part of any word: it is left to the shapes. */
const MIN_LENGTH = 12

let configured: RegExp | null = null
const forms = new Set<string>()

/** From now on these values are taken out of everything, plain and in base64, hex, URL and JSON spelling. */
export function protect(secrets: (string | null | undefined)[]): void {
  for (const secret of secrets) if (secret && secret.length >= MIN_LENGTH) formsOf(secret).forEach(add)
  const longestFirst = [...forms].sort((a, b) => b.length - a.length)
  configured = forms.size === 0 ? null : new RegExp(longestFirst.map(escapePattern).join('|'), 'g')
}

function add(form: string) {
  forms.add(form)
}

function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret)
  return [
    secret,
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('base64url'),
    bytes.toString('hex'),
  ]
}

const escapePattern = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')

/** Takes anything that looks like a credential, or was configured as one, out of a line, wherever it stands in it. */
export function scrub(line: string): string {
  const known = configured ? line.replace(configured, '[secret]') : line
  return known.replace(SHAPES, (_, prefix?: string, database?: string) =>
    database ? `${database}:[secret]@` : `${prefix ?? 'Bearer '}[secret]`,
  )
}

/** The same for a text that people read: only what is a credential for certain is taken out. */
export function scrubText(text: string): string {
  const known = configured ? text.replace(configured, '[secret]') : text
  return known.replace(CREDENTIALS, '$1[secret]')
}

const guarded = new WeakSet<NodeJS.WriteStream>()

/** Puts the net under a stream itself, for what no logger sees: crashes, warnings, libraries that print. */
export function guard(stream: NodeJS.WriteStream): void {
  if (guarded.has(stream)) return
  guarded.add(stream)
  const write = stream.write.bind(stream) as (chunk: string | Uint8Array, ...rest: unknown[]) => boolean
  stream.write = ((chunk: string | Uint8Array, ...rest: unknown[]) =>
    write(typeof chunk === 'string' ? scrub(chunk) : chunk, ...rest)) as typeof stream.write
}
