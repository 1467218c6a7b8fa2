import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { DrizzleQueryError } from 'drizzle-orm/errors'
import t from 'tap'
import { describeError } from '../src/logger.ts'
import { scrub } from '../src/scrub.ts'

const secret = () => randomBytes(32).toString('base64url')

t.test('a credential is taken out wherever it stands', async t => {
  for (const prefix of ['nmv_usr_', 'clm_', 'rg_', 'rgt_']) {
    const token = prefix + secret()
    for (const line of [
      token,
      `"${token}"`,
      `{"token":"${token}"}`,
      `https://api.example/?ticket=${token}&x=1`,
      JSON.stringify(`first line\n${token}`),
      JSON.stringify(`tab\t${token}`),
      `value%20${token}`,
      `x=${token};y`,
      `Cookie: __Host-reelgate=${token}`,
    ]) {
      const clean = scrub(line)
      t.notMatch(clean, token.slice(prefix.length, prefix.length + 6), line)
      t.match(clean, '[secret]')
    }
  }
})

t.test('an authorization header, whatever its token', async t => {
  for (const line of ['Bearer opaque.abc', 'authorization: bearer opaque.abc', '{"a":"Bearer opaque.abc"}'])
    t.notMatch(scrub(line), 'opaque', line)
  t.notMatch(scrub(JSON.stringify('headers:\nBearer opaque.abc')), 'opaque')
  t.equal(scrub('{"a":"Bearer x","b":1}'), '{"a":"Bearer [secret]","b":1}', 'the line stays JSON')
})

t.test('a password of the database', async t => {
  t.equal(
    scrub('connect postgres://gate:hunter2@db.example/x failed'),
    'connect postgres://gate:[secret]@db.example/x failed',
  )
  t.notMatch(scrub('postgresql://gate:hunter2@db.example/x'), 'hunter2')
  t.notMatch(scrub('postgres://gate:p@ss:w0rd@db.example/x'), /ss|w0rd/, 'with the signs of an address in it')
  t.equal(
    scrub('postgres://gate@db.example/x by user@example.com'),
    'postgres://gate@db.example/x by user@example.com',
  )
})

t.test('two on one line, and everything else as it was', async t => {
  t.equal(scrub('rg_aaaa and nmv_usr_bbbb'), 'rg_[secret] and nmv_usr_[secret]')
  for (const line of ['{"org_name":"x","status":200}', 'postgres://db.example/x', 'merge_request'])
    t.equal(scrub(line), line)
})

t.test('what the logger writes has been through it', async t => {
  const token = `nmv_usr_${secret()}`
  const program = `
    import { createLogger } from ${JSON.stringify(new URL('../src/logger.ts', import.meta.url).href)}
    const log = createLogger('info')
    const token = process.env.CANARY
    log.info({ headers: { authorization: 'Bearer ' + token } }, 'in a field')
    log.info({ [token]: 1 }, 'in a name')
    log.error({ err: new Error('refused\\n' + token, { cause: new Error(token) }) }, 'in an error')
    log.child({ token }).warn('of a child %s', token)
    log.debug('not at this level')`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    env: { CANARY: token },
    encoding: 'utf8',
  })
  t.equal(stderr, '')
  const lines = stdout.trim().split('\n')
  t.equal(lines.length, 4)
  t.notMatch(stdout, token.slice(8))
  for (const line of lines) t.match(JSON.parse(line), { time: /^\d{4}-\d\d-\d\dT/, msg: String })
})

t.test('a failed statement is logged without the values, which are what users wrote', async t => {
  const cause = new Error('connection lost')
  const failed = new DrizzleQueryError(
    'insert into runs (text) values ($1)',
    ['a secret\nof two lines'],
    cause,
  )
  for (const error of [failed, new Error('The run could not be stored', { cause: failed })]) {
    const described = JSON.stringify(describeError(error))
    t.notMatch(described, /secret|two lines/)
    t.match(described, /insert into runs/)
    t.match(described, /connection lost/)
  }
})
