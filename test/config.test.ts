import { resolve } from 'node:path'
import Fastify from 'fastify'
import t from 'tap'
import { ConfigError, readEnv, toConfig } from '../src/config.ts'

const KEY = Buffer.alloc(32, 7).toString('base64')
const OTHER_KEY = Buffer.alloc(32, 8).toString('base64')

const configOf = (env: Record<string, string>) => toConfig(readEnv(env))

/** What is wrong with these settings; nothing when they are accepted. */
function mistakesOf(env: Record<string, string>): string[] {
  try {
    configOf(env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.mistakes
    throw error
  }
}

const PRODUCTION = {
  NODE_ENV: 'production',
  DATABASE_URL: 'postgres://gate:pass@db.example/reelgate',
  NEMO_API_URL: 'https://api.example',
  TOKEN_KEYS: `k1:${KEY}`,
}

t.test('with nothing set, a fresh machine has all it needs', async t => {
  const config = configOf({})
  t.match(config, {
    production: false,
    http: {
      host: '127.0.0.1',
      port: 8080,
      allowedOrigins: [],
      trustProxy: false,
      connectionsPerAddress: 1_000,
    },
    limits: { perMinute: 600, guestsPerMinute: 30 },
    oidc: null,
    logLevel: 'info',
    dataDir: resolve('.data'),
    database: { url: null },
    upstream: {
      apiUrl: null,
      webUrl: 'https://nemovideo.com',
      skillSource: 'reelgate',
      sharedToken: null,
      streaming: true,
      bodyCase: 'snake',
      rateLimitRetryMs: 30_000,
    },
    tokenKeys: null,
    runs: { limitMs: 900_000, silenceMs: 600_000, noticeMs: 120_000 },
    uploads: { maxBytes: 500_000_000, spoolQuotaBytes: 20_000_000_000, s3: null },
    events: { keepDays: 30, hints: true, readersPerUser: 20 },
    opsToken: null,
  })
  t.same(configOf({ PORT: '  ', LOG_LEVEL: '', NEMO_TOKEN: ' ' }), config, 'blank is unset')
})

t.test('the waiting suits the backend: the sandbox answers within seconds', async t => {
  const waiting = (env: Record<string, string>) => {
    const { runs, renders } = configOf(env)
    return { ...runs.reconcile, pollMs: renders.pollMs }
  }
  const patient = { firstMs: 30_000, everyMs: 60_000, reads: 5, pollMs: 30_000 }
  t.same(waiting({ NEMO_API_URL: 'https://api.example' }), patient)
  t.same(waiting({}), { firstMs: 3_000, everyMs: 3_000, reads: 5, pollMs: 2_000 })
})

t.test('tokens for guests are rationed where the real backend gives them away', async t => {
  const ration = (env: Record<string, string>) => configOf(env).upstream.mintsPerWeek
  t.equal(ration({ NEMO_API_URL: 'https://api.example' }), 10)
  t.equal(ration({ NEMO_API_URL: 'http://127.0.0.1:9100' }), 1_000)
  t.equal(ration({}), 1_000)
})

t.test('every setting reaches its place', async t => {
  const config = configOf({
    ...PRODUCTION,
    HOST: '0.0.0.0',
    PORT: ' 9000 ',
    DATA_DIR: '/var/lib/reelgate',
    NEMO_API_URL: 'https://api.example/v1//',
    NEMO_WEB_URL: 'https://web.example/',
    NEMO_SKILL_SOURCE: 'studio',
    NEMO_TOKEN: 'nmv_usr_shared',
    NEMO_STREAMING: 'false',
    NEMO_BODY_CASE: 'camel',
    TOKEN_KEYS: `new:${KEY}, old:${OTHER_KEY}`,
    OPS_TOKEN: 'ops-secret',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318/',
    ALLOWED_ORIGINS: 'https://app.example, http://localhost:5173',
    OIDC_ISSUER: 'https://id.example/realms/studio',
    OIDC_AUDIENCE: 'reelgate-app',
    RATE_LIMIT_PER_MINUTE: '1200',
    GUESTS_PER_MINUTE: '60',
    TRUST_PROXY: '10.0.0.0/8, loopback',
    CONNECTIONS_PER_ADDRESS: '50',
    LOG_LEVEL: 'warn',
    RENDER_POLL_MS: '1000',
    RATE_LIMIT_RETRY_MS: '2000',
    MINTS_PER_WEEK: '20',
    RUN_LIMIT_MS: '3000',
    STREAM_SILENCE_MS: '4000',
    STREAM_NOTICE_MS: '5000',
    RECONCILE_FIRST_MS: '0',
    RECONCILE_EVERY_MS: '7000',
    RECONCILE_READS: '8',
    SILENT_END_MS: '600',
    MAX_UPLOAD_BYTES: '9000',
    KEEP_RENDERS: '1',
    RENDERS_S3_BUCKET: 'films',
    RENDERS_S3_REGION: 'eu-west-1',
    RENDERS_S3_ENDPOINT: 'http://films.example',
    RENDERS_S3_ACCESS_KEY_ID: 'films-id',
    RENDERS_S3_SECRET_ACCESS_KEY: 'films-secret',
    SPOOL_QUOTA_BYTES: '90000',
    EVENTS_KEEP_DAYS: '7',
    EVENTS_HINTS: 'false',
    EVENTS_READERS_PER_USER: '5',
    UPLOADS_S3_BUCKET: 'uploads',
    UPLOADS_S3_REGION: 'eu-central-1',
    UPLOADS_S3_ENDPOINT: 'https://minio.example.com/',
    UPLOADS_S3_ACCESS_KEY_ID: 'id',
    UPLOADS_S3_SECRET_ACCESS_KEY: 'secret',
  })
  t.same(config, {
    production: true,
    http: {
      host: '0.0.0.0',
      port: 9000,
      allowedOrigins: ['https://app.example', 'http://localhost:5173'],
      trustProxy: ['10.0.0.0/8', 'loopback'],
      connectionsPerAddress: 50,
    },
    limits: { perMinute: 1_200, guestsPerMinute: 60 },
    oidc: { issuer: 'https://id.example/realms/studio', audience: 'reelgate-app' },
    logLevel: 'warn',
    dataDir: '/var/lib/reelgate',
    database: { url: 'postgres://gate:pass@db.example/reelgate' },
    upstream: {
      apiUrl: 'https://api.example/v1',
      webUrl: 'https://web.example',
      skillSource: 'studio',
      sharedToken: 'nmv_usr_shared',
      streaming: false,
      bodyCase: 'camel',
      rateLimitRetryMs: 2000,
      mintsPerWeek: 20,
    },
    tokenKeys: [
      { id: 'new', secret: Buffer.alloc(32, 7) },
      { id: 'old', secret: Buffer.alloc(32, 8) },
    ],
    runs: {
      limitMs: 3000,
      silenceMs: 4000,
      noticeMs: 5000,
      reconcile: { firstMs: 0, everyMs: 7000, reads: 8 },
      silentEndMs: 600,
    },
    renders: {
      pollMs: 1000,
      keep: true,
      s3: {
        bucket: 'films',
        region: 'eu-west-1',
        endpoint: 'http://films.example',
        credentials: { accessKeyId: 'films-id', secretAccessKey: 'films-secret' },
      },
    },
    uploads: {
      maxBytes: 9000,
      spoolQuotaBytes: 90_000,
      s3: {
        bucket: 'uploads',
        region: 'eu-central-1',
        endpoint: 'https://minio.example.com',
        credentials: { accessKeyId: 'id', secretAccessKey: 'secret' },
      },
    },
    events: { keepDays: 7, hints: false, readersPerUser: 5 },
    opsToken: 'ops-secret',
    crashAt: null,
    traces: { endpoint: 'http://collector:4318' },
  })
})

t.test('all mistakes are named together, in one message', async t => {
  const wrong: Record<string, string> = {
    NODE_ENV: 'prod',
    PORT: '65536',
    DATABASE_URL: 'mysql://db.example',
    NEMO_API_URL: 'api.example',
    NEMO_WEB_URL: 'ftp://web.example',
    NEMO_SKILL_SOURCE: 'two words',
    NEMO_TOKEN: 'nmv_usr_with space',
    NEMO_STREAMING: 'yes',
    NEMO_BODY_CASE: 'kebab',
    TOKEN_KEYS: 'k1:short',
    OPS_TOKEN: 'naïve',
    ALLOWED_ORIGINS: 'https://app.example/',
    TRUST_PROXY: 'everybody',
    CONNECTIONS_PER_ADDRESS: '0',
    LOG_LEVEL: 'loud',
    RENDER_POLL_MS: '0',
    RATE_LIMIT_RETRY_MS: '-1',
    MINTS_PER_WEEK: 'ten',
    RUN_LIMIT_MS: '1.5',
    STREAM_SILENCE_MS: '1e3',
    STREAM_NOTICE_MS: '0x10',
    RECONCILE_FIRST_MS: 'soon',
    RECONCILE_EVERY_MS: '99999999999999999999',
    RECONCILE_READS: '101',
    SILENT_END_MS: '-5',
    MAX_UPLOAD_BYTES: '0',
    SPOOL_QUOTA_BYTES: '20GB',
    EVENTS_KEEP_DAYS: '0',
    EVENTS_HINTS: 'perhaps',
    EVENTS_READERS_PER_USER: '0',
    UPLOADS_S3_BUCKET: 'Two Words',
    UPLOADS_S3_REGION: 'EU',
    UPLOADS_S3_ENDPOINT: 's3.example',
    UPLOADS_S3_ACCESS_KEY_ID: 'without a secret',
    KEEP_RENDERS: 'true',
    RENDERS_S3_REGION: 'eu-west-1',
  }
  const mistakes = mistakesOf(wrong)
  t.same(mistakes.map(mistake => mistake.split(' ')[0]).toSorted(), Object.keys(wrong).toSorted())
  const error = t.throws(() => configOf(wrong), ConfigError) as unknown as ConfigError
  for (const mistake of mistakes) t.match(error.message, mistake)
  t.match(error.message, `${mistakes.length} mistakes`)
})

t.test('settings of S3 without a bucket', async t => {
  t.match(mistakesOf({ UPLOADS_S3_REGION: 'eu-central-1' }), [/^UPLOADS_S3_REGION means nothing without/])
  t.match(mistakesOf({ RENDERS_S3_BUCKET: 'films' }), [
    /^RENDERS_S3_BUCKET means nothing without KEEP_RENDERS=1/,
  ])
  const { s3 } = configOf({ UPLOADS_S3_BUCKET: 'uploads' }).uploads
  t.same(s3, { bucket: 'uploads', region: 'us-east-1', endpoint: null, credentials: null })
})

t.test('production refuses what is for development, all of it at once', async t => {
  t.same(mistakesOf(PRODUCTION), [])
  const mistakes = mistakesOf({ NODE_ENV: 'production' })
  t.match(mistakes, [/^DATABASE_URL must/, /^NEMO_API_URL must/, /^TOKEN_KEYS must/])
  t.equal(mistakes.length, 3)
  t.equal(mistakesOf({ ...PRODUCTION, DATABASE_URL: 'x' }).length, 1, 'a wrong one is not called missing too')
  t.equal(mistakesOf({ ...PRODUCTION, NEMO_API_URL: '  ' }).length, 1, 'a blank one is missing')
})

t.test('no message repeats a secret', async t => {
  const secrets = {
    DATABASE_URL: 'mysql://gate:canary@db.example',
    NEMO_TOKEN: 'canary with a space',
    OPS_TOKEN: 'canary with a space',
    TOKEN_KEYS: `canary:${KEY.slice(0, -9)}, k1:${KEY}, k1:${OTHER_KEY}`,
    NEMO_API_URL: 'nemo://user:canary@api.example',
  }
  const error = t.throws(() => configOf(secrets), ConfigError) as unknown as ConfigError
  t.equal(error.mistakes.length, 5)
  for (const text of [error.message, error.stack, JSON.stringify(error)])
    for (const secret of ['canary', KEY.slice(0, 12), OTHER_KEY.slice(0, 12)]) t.notMatch(text, secret)
})

t.test('token keys', async t => {
  const message = (TOKEN_KEYS: string) => mistakesOf({ TOKEN_KEYS })[0] ?? ''
  t.equal(message(`k1:${KEY}`), '')
  t.match(message(`k1:${KEY},k1:${OTHER_KEY}`), 'same kid twice')
  for (const wrong of [
    ',',
    KEY,
    `:${KEY}`,
    'k1:',
    `k.1:${KEY}`,
    `k1:${KEY},k2:${Buffer.alloc(31).toString('base64')}`,
    `k1:${Buffer.alloc(33).toString('base64')}`,
    `${'k'.repeat(33)}:${KEY}`,
  ])
    t.match(message(wrong), '32 bytes in base64', wrong)
})

t.test('origins are origins, and nothing that merely begins like one', async t => {
  for (const wrong of [
    'app.example',
    'https://app.example/path',
    'https://APP.example',
    '*',
    'null',
    'file:///x',
  ])
    t.match(mistakesOf({ ALLOWED_ORIGINS: `https://good.example,${wrong}` }), [/^ALLOWED_ORIGINS/], wrong)
})

t.test('proxies are addresses, ranges or the names of ranges', async t => {
  for (const right of ['127.0.0.1', '10.0.0.0/8,fd00::/8', 'loopback, uniquelocal', '::1', '10.0.0.0/32']) {
    const { http } = configOf({ TRUST_PROXY: right })
    t.doesNotThrow(() => Fastify(http), right)
  }
  const wrong = [
    'true',
    '*',
    'proxy.example',
    '10.0.0.0/33',
    '10.0.0.0/0',
    '10.0.0.0/',
    '10.0.0',
    '::/129',
    '1',
  ]
  for (const proxy of wrong) t.match(mistakesOf({ TRUST_PROXY: proxy }), [/^TRUST_PROXY/], proxy)
})

t.test('where a test has the process die', async t => {
  t.same(configOf({ CRASH_AT: 'run.after_post' }).crashAt, { point: 'run.after_post', how: 'kill', hit: 1 })
  t.same(configOf({ CRASH_AT: 'run.mid_stream:stop:3' }).crashAt, {
    point: 'run.mid_stream',
    how: 'stop',
    hit: 3,
  })
  for (const wrong of ['run', 'run.after_post:pause', 'run.after_post:0', 'run.after_post:stop:'])
    t.match(mistakesOf({ CRASH_AT: wrong }), [/^CRASH_AT must be a point/], wrong)
  t.match(mistakesOf({ ...PRODUCTION, CRASH_AT: 'run.after_post' }), [/^CRASH_AT .*production/])
})

t.test(
  'an issuer is believed over https alone; over http only on this machine, outside production',
  async t => {
    const issuer = (OIDC_ISSUER: string, more = {}) =>
      mistakesOf({ OIDC_ISSUER, OIDC_AUDIENCE: 'app', ...more })
    for (const good of [
      'https://id.example',
      'https://id.example/a/b',
      'http://127.0.0.1:9',
      'http://localhost:9',
    ])
      t.same(issuer(good), [], good)
    for (const bad of [
      'id.example',
      'http://id.example',
      'http://127.0.0.1.evil.example',
      'https://id.example?a=b',
      'https://id.example#a',
      'https://user:pass@id.example',
      'ftp://id.example',
    ])
      t.match(issuer(bad), [/^OIDC_ISSUER must be/], bad)
    t.match(issuer('http://127.0.0.1:9', PRODUCTION), [/^OIDC_ISSUER/])
    t.match(mistakesOf({ OIDC_ISSUER: 'https://id.example' }), [/^OIDC_AUDIENCE must be set/])
    t.match(mistakesOf({ OIDC_AUDIENCE: 'app' }), [/^OIDC_ISSUER must be set/])
  },
)
