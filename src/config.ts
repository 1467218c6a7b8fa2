import { isIP } from 'node:net'
import { resolve } from 'node:path'

/** The variables reelgate reads, as strings. The only reader of `process.env`. */
export function readEnv(env: NodeJS.ProcessEnv = process.env): Env {
  return Object.fromEntries(VARIABLES.map(name => [name, env[name]?.trim() || undefined])) as Env
}

const VARIABLES = [
  'NODE_ENV',
  'HOST',
  'PORT',
  'DATABASE_URL',
  'DATA_DIR',
  'NEMO_API_URL',
  'NEMO_WEB_URL',
  'NEMO_SKILL_SOURCE',
  'NEMO_TOKEN',
  'NEMO_STREAMING',
  'NEMO_BODY_CASE',
  'TOKEN_KEYS',
  'OPS_TOKEN',
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'ALLOWED_ORIGINS',
  'OIDC_ISSUER',
  'OIDC_AUDIENCE',
  'RATE_LIMIT_PER_MINUTE',
  'GUESTS_PER_MINUTE',
  'CONNECTIONS_PER_ADDRESS',
  'TRUST_PROXY',
  'LOG_LEVEL',
  'RENDER_POLL_MS',
  'RATE_LIMIT_RETRY_MS',
  'MINTS_PER_WEEK',
  'RUN_LIMIT_MS',
  'STREAM_SILENCE_MS',
  'STREAM_NOTICE_MS',
  'RECONCILE_FIRST_MS',
  'RECONCILE_EVERY_MS',
  'RECONCILE_READS',
  'SILENT_END_MS',
  'MAX_UPLOAD_BYTES',
  'SPOOL_QUOTA_BYTES',
  'UPLOADS_S3_BUCKET',
  'UPLOADS_S3_REGION',
  'UPLOADS_S3_ENDPOINT',
  'UPLOADS_S3_ACCESS_KEY_ID',
  'UPLOADS_S3_SECRET_ACCESS_KEY',
  'KEEP_RENDERS',
  'RENDERS_S3_BUCKET',
  'RENDERS_S3_REGION',
  'RENDERS_S3_ENDPOINT',
  'RENDERS_S3_ACCESS_KEY_ID',
  'RENDERS_S3_SECRET_ACCESS_KEY',
  'CRASH_AT',
  'EVENTS_KEEP_DAYS',
  'EVENTS_HINTS',
  'EVENTS_READERS_PER_USER',
] as const

export type Env = Record<(typeof VARIABLES)[number], string | undefined>

export interface TokenKey {
  id: string
  secret: Buffer
}

export interface S3Config {
  bucket: string
  region: string
  /** `null` means: Amazon's. */
  endpoint: string | null
  /** `null` means: as the AWS SDK finds them, in the environment or from the machine's role. */
  credentials: { accessKeyId: string; secretAccessKey: string } | null
}

export interface Config {
  production: boolean
  http: {
    host: string
    port: number
    allowedOrigins: string[]
    trustProxy: string[] | false
    /** Open at once, on this instance, from one address that is no proxy. */
    connectionsPerAddress: number
  }
  /** Requests of one user, and new guests from one address. */
  limits: { perMinute: number; guestsPerMinute: number }
  /** Whose ID tokens sign users in; `null`: nobody's. */
  oidc: { issuer: string; audience: string } | null
  logLevel: string
  dataDir: string
  /** `url: null` means: the embedded Postgres under `dataDir`. */
  database: { url: string | null }
  upstream: {
    /** `null` means: start the sandbox. */
    apiUrl: string | null
    webUrl: string
    skillSource: string
    sharedToken: string | null
    streaming: boolean
    bodyCase: 'snake' | 'camel'
    rateLimitRetryMs: number
    /** Anonymous tokens in 7 days, for all guests together (upstream-contract §0.6). */
    mintsPerWeek: number
  }
  /** `null` means: generated under `dataDir`. The first key seals, all of them open. */
  tokenKeys: TokenKey[] | null
  runs: {
    limitMs: number
    silenceMs: number
    noticeMs: number
    reconcile: { firstMs: number; everyMs: number; reads: number }
    /** How long to look for what an answer without words has changed. */
    silentEndMs: number
  }
  renders: {
    pollMs: number
    /** Keep a copy of each finished film. */
    keep: boolean
    /** `null` means: the copies are kept under `dataDir`. */
    s3: S3Config | null
  }
  uploads: {
    maxBytes: number
    /** What resumable uploads may take up at once. */
    spoolQuotaBytes: number
    /** `null` means: they are kept under `dataDir`. */
    s3: S3Config | null
  }
  /** `hints: false`: what other instances write is found by polling alone, for poolers without LISTEN. */
  events: { keepDays: number; hints: boolean; readersPerUser: number }
  opsToken: string | null
  /** `null`: no traces. */
  traces: { endpoint: string | null }
  /** For tests: where this process is to die or to freeze, and at which passing. */
  crashAt: { point: string; how: 'kill' | 'stop'; hit: number } | null
}

/** The configured values that must never be printed. */
export function secretsOf({
  database,
  tokenKeys,
  upstream,
  uploads,
  renders,
  opsToken,
}: Config): (string | null)[] {
  const password = database.url === null ? null : new URL(database.url).password
  return [
    password,
    password && decodeURIComponent(password),
    upstream.sharedToken,
    uploads.s3?.credentials?.secretAccessKey ?? null,
    renders.s3?.credentials?.secretAccessKey ?? null,
    opsToken,
    ...(tokenKeys ?? []).flatMap(({ secret }) =>
      (['base64url', 'base64', 'hex'] as const).map(form => secret.toString(form).replace(/=+$/, '')),
    ),
  ]
}

export class ConfigError extends Error {
  readonly mistakes: string[]

  constructor(mistakes: string[]) {
    super(
      `The configuration has ${mistakes.length === 1 ? 'a mistake' : `${mistakes.length} mistakes`}:\n${mistakes.map(m => `  - ${m}`).join('\n')}`,
    )
    this.name = 'ConfigError'
    this.mistakes = mistakes
  }
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

/** Checks every setting and names all mistakes together; throws ConfigError (exit code 78). */
export function toConfig(env: Env): Config {
  const mistakes: string[] = []
  const wrong = (name: keyof Env, why: string) => mistakes.push(`${name} ${why}`)

  const integer = (name: keyof Env, fallback: number, min: number, max: number) => {
    const value = env[name]
    if (value === undefined) return fallback
    if (/^\d{1,15}$/.test(value) && Number(value) >= min && Number(value) <= max) return Number(value)
    wrong(name, `must be a whole number from ${min} to ${max}`)
    return fallback
  }
  const oneOf = <T extends string>(name: keyof Env, allowed: readonly T[], fallback: T): T => {
    const value = env[name]
    if (value === undefined || allowed.includes(value as T)) return (value as T) ?? fallback
    wrong(name, `must be one of ${allowed.join(', ')}`)
    return fallback
  }
  const url = (name: keyof Env, protocols: string[]) => {
    const value = env[name]
    if (value === undefined) return null
    if (URL.canParse(value) && protocols.includes(new URL(value).protocol)) return value.replace(/\/+$/, '')
    wrong(name, `must be a URL that begins with ${protocols.map(p => `${p}//`).join(' or ')}`)
    return null
  }
  const header = (name: keyof Env, fallback: string | null) => {
    const value = env[name] ?? fallback
    if (value !== null && !/^[\x21-\x7e]{1,4096}$/.test(value))
      wrong(name, 'must be printable ASCII without spaces')
    return value
  }

  const production = oneOf('NODE_ENV', ['production', 'development', 'test'], 'development') === 'production'
  // The sandbox works in seconds, so waiting as long as for the real backend would only bore.
  const sandbox = env.NEMO_API_URL === undefined
  // Plain http is a sandbox somewhere else; it gives tokens away freely.
  const rationed = /^https:/i.test(env.NEMO_API_URL ?? '')
  const config: Config = {
    production,
    http: {
      host: env.HOST ?? '127.0.0.1',
      port: integer('PORT', 8080, 0, 65535),
      allowedOrigins: origins(env.ALLOWED_ORIGINS, why => wrong('ALLOWED_ORIGINS', why)),
      trustProxy: proxies(env.TRUST_PROXY, why => wrong('TRUST_PROXY', why)),
      connectionsPerAddress: integer('CONNECTIONS_PER_ADDRESS', 1_000, 1, 1_000_000),
    },
    limits: {
      perMinute: integer('RATE_LIMIT_PER_MINUTE', 600, 1, 1_000_000_000),
      guestsPerMinute: integer('GUESTS_PER_MINUTE', 30, 1, 1_000_000_000),
    },
    oidc: oidc(env, production, wrong),
    logLevel: oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    dataDir: resolve(env.DATA_DIR ?? '.data'),
    database: { url: url('DATABASE_URL', ['postgres:', 'postgresql:']) },
    upstream: {
      apiUrl: url('NEMO_API_URL', ['http:', 'https:']),
      webUrl: url('NEMO_WEB_URL', ['http:', 'https:']) ?? 'https://nemovideo.com',
      skillSource: header('NEMO_SKILL_SOURCE', 'reelgate') ?? 'reelgate',
      sharedToken: header('NEMO_TOKEN', null),
      streaming: oneOf('NEMO_STREAMING', ['true', 'false'], 'true') === 'true',
      bodyCase: oneOf('NEMO_BODY_CASE', ['snake', 'camel'], 'snake'),
      rateLimitRetryMs: integer('RATE_LIMIT_RETRY_MS', 30_000, 1, 3_600_000),
      mintsPerWeek: integer('MINTS_PER_WEEK', rationed ? 10 : 1_000, 0, 1_000_000),
    },
    tokenKeys: tokenKeys(env.TOKEN_KEYS, why => wrong('TOKEN_KEYS', why)),
    runs: {
      limitMs: integer('RUN_LIMIT_MS', 900_000, 1, 86_400_000),
      silenceMs: integer('STREAM_SILENCE_MS', 600_000, 1, 86_400_000),
      noticeMs: integer('STREAM_NOTICE_MS', 120_000, 1, 86_400_000),
      reconcile: {
        firstMs: integer('RECONCILE_FIRST_MS', sandbox ? 3_000 : 30_000, 0, 3_600_000),
        everyMs: integer('RECONCILE_EVERY_MS', sandbox ? 3_000 : 60_000, 1, 3_600_000),
        reads: integer('RECONCILE_READS', 5, 1, 100),
      },
      silentEndMs: integer('SILENT_END_MS', sandbox ? 3_000 : 20_000, 0, 300_000),
    },
    renders: {
      pollMs: integer('RENDER_POLL_MS', sandbox ? 2_000 : 30_000, 10, 3_600_000),
      keep: oneOf('KEEP_RENDERS', ['0', '1'], '0') === '1',
      s3: s3(env, 'RENDERS', url('RENDERS_S3_ENDPOINT', ['http:', 'https:']), wrong),
    },
    uploads: {
      maxBytes: integer('MAX_UPLOAD_BYTES', 500_000_000, 1, 10_000_000_000),
      spoolQuotaBytes: integer('SPOOL_QUOTA_BYTES', 20_000_000_000, 0, 100_000_000_000_000),
      s3: s3(env, 'UPLOADS', url('UPLOADS_S3_ENDPOINT', ['http:', 'https:']), wrong),
    },
    events: {
      keepDays: integer('EVENTS_KEEP_DAYS', 30, 1, 3_650),
      hints: oneOf('EVENTS_HINTS', ['true', 'false'], 'true') === 'true',
      readersPerUser: integer('EVENTS_READERS_PER_USER', 20, 1, 100_000),
    },
    opsToken: header('OPS_TOKEN', null),
    crashAt: crashAt(env.CRASH_AT, why => wrong('CRASH_AT', why)),
    traces: { endpoint: url('OTEL_EXPORTER_OTLP_ENDPOINT', ['http:', 'https:']) },
  }
  if (production) {
    if (!env.DATABASE_URL)
      wrong('DATABASE_URL', 'must be set in production: the embedded database is for development')
    if (!env.NEMO_API_URL) wrong('NEMO_API_URL', 'must be set in production: the sandbox is for development')
    if (env.CRASH_AT) wrong('CRASH_AT', 'must not be set in production: it ends the process')
    if (!env.TOKEN_KEYS) wrong('TOKEN_KEYS', 'must be set in production: generated keys are for development')
  }
  if (config.renders.s3 && !config.renders.keep)
    wrong('RENDERS_S3_BUCKET', 'means nothing without KEEP_RENDERS=1')
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  return config
}

function s3(
  env: Env,
  of: 'UPLOADS' | 'RENDERS',
  endpoint: string | null,
  wrong: (name: keyof Env, why: string) => void,
): S3Config | null {
  const names = {
    bucket: `${of}_S3_BUCKET`,
    region: `${of}_S3_REGION`,
    endpoint: `${of}_S3_ENDPOINT`,
    accessKeyId: `${of}_S3_ACCESS_KEY_ID`,
    secretAccessKey: `${of}_S3_SECRET_ACCESS_KEY`,
  } as const
  const bucket = env[names.bucket]
  const region = env[names.region] ?? 'us-east-1'
  const accessKeyId = env[names.accessKeyId]
  const secretAccessKey = env[names.secretAccessKey]
  if (!bucket) {
    for (const name of Object.values(names))
      if (env[name]) wrong(name, `means nothing without ${names.bucket}`)
    return null
  }
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) wrong(names.bucket, 'must be the name of a bucket')
  if (!/^[a-z0-9-]{2,32}$/.test(region)) wrong(names.region, 'must be a region such as eu-central-1')
  if (!accessKeyId !== !secretAccessKey)
    wrong(names.accessKeyId, `and ${names.secretAccessKey} must both be set, or neither of them`)
  const credentials = accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey } : null
  return { bucket, region, endpoint, credentials }
}

/** `point`, `point:stop`, `point:kill:3` (at the third passing). */
function crashAt(value: string | undefined, wrong: (why: string) => void): Config['crashAt'] {
  if (value === undefined) return null
  const [, point = '', how = 'kill', hit = '1'] =
    /^([a-z_]+\.[a-z_]+)(?::(kill|stop))?(?::([1-9]\d{0,3}))?$/.exec(value) ?? []
  if (!point)
    wrong('must be a point such as render.after_post, then :kill or :stop, then :n for the n-th time')
  return { point, how: how as 'kill' | 'stop', hit: Number(hit) }
}

/** Plain http is for an issuer on this machine, and not for production: who answers for it could sign in as anyone. */
function oidc(
  env: Env,
  production: boolean,
  wrong: (name: keyof Env, why: string) => void,
): { issuer: string; audience: string } | null {
  const { OIDC_ISSUER: issuer, OIDC_AUDIENCE: audience } = env
  if (issuer === undefined && audience === undefined) return null
  if (issuer === undefined) wrong('OIDC_ISSUER', 'must be set together with OIDC_AUDIENCE')
  else if (!isIssuer(issuer, production))
    wrong('OIDC_ISSUER', 'must be a URL that begins with https:// and has neither query nor fragment')
  if (audience === undefined) wrong('OIDC_AUDIENCE', 'must be set together with OIDC_ISSUER')
  return { issuer: issuer ?? '', audience: audience ?? '' }
}

function isIssuer(value: string, production: boolean): boolean {
  const url = URL.parse(value)
  if (!url || url.search || url.hash || url.username || url.password) return false
  const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname)
  return url.protocol === 'https:' || (url.protocol === 'http:' && loopback && !production)
}

const list = (value: string) =>
  value
    .split(',')
    .map(part => part.trim())
    .filter(Boolean)

function origins(value: string | undefined, wrong: (why: string) => void): string[] {
  const all = list(value ?? '')
  for (const origin of all)
    if (!URL.canParse(origin) || new URL(origin).origin !== origin)
      wrong(`has "${origin}", which is not an origin such as https://app.example.com`)
  return all
}

function proxies(value: string | undefined, wrong: (why: string) => void): string[] | false {
  if (value === undefined) return false
  const all = list(value)
  for (const proxy of all)
    if (!isProxy(proxy))
      wrong(`has "${proxy}", which is neither an address, nor a range such as 10.0.0.0/8, nor loopback`)
  return all
}

function isProxy(value: string): boolean {
  if (/^(loopback|linklocal|uniquelocal)$/.test(value)) return true
  const [address = '', bits, ...more] = value.split('/')
  const width = { 4: 32, 6: 128 }[isIP(address)]
  if (width === undefined || more.length > 0) return false
  return bits === undefined || (/^[1-9]\d{0,2}$/.test(bits) && Number(bits) <= width)
}

function tokenKeys(value: string | undefined, wrong: (why: string) => void): TokenKey[] | null {
  if (value === undefined) return null
  const keys = list(value).map(part => {
    const [id = '', secret = ''] = part.split(':')
    return { id, secret: Buffer.from(secret, 'base64') }
  })
  // The value itself is a secret: no part of it may stand in the message.
  if (keys.length === 0 || keys.some(k => !/^[A-Za-z0-9_-]{1,32}$/.test(k.id) || k.secret.length !== 32))
    wrong('must be kid:key,… with a kid of letters and digits and a key of 32 bytes in base64')
  else if (new Set(keys.map(k => k.id)).size !== keys.length) wrong('has the same kid twice')
  return keys
}
