import { spawn } from 'node:child_process'
import { randomBytes, randomUUIDv7 } from 'node:crypto'
import { once } from 'node:events'
import { sql } from 'drizzle-orm'
import t, { type Test } from 'tap'
import { type Env, readEnv, toConfig } from '../src/config.ts'
import { linkToken, listAccounts } from '../src/db/account-links.ts'
import { findAccount, storeToken } from '../src/db/accounts.ts'
import type { Db } from '../src/db/client.ts'
import { keyStatus, rotate } from '../src/services/accounts/rotation.ts'
import { createTokenVault } from '../src/services/accounts/token-vault.ts'
import { testDatabase } from './helpers/database.ts'
import { MACHINE } from './helpers/gateway.ts'

const KEYS = new URL('../src/keys.ts', import.meta.url).pathname
const key = (id: string) => ({ id, secret: randomBytes(32) })
const OLD = key('old')
const NEW = key('new')
const LOST = key('lost')
const setting = (...keys: { id: string; secret: Buffer }[]) =>
  keys.map(({ id, secret }) => `${id}:${secret.toString('base64')}`).join(',')

function keys(t: Test, args: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [KEYS, ...args], { env: { ...MACHINE, ...env } })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', chunk => {
      output += chunk
    })
  // `close` and not `exit`: by then everything it printed is read.
  const ended = once(child, 'close').then(([code, signal]) => ({ code: code ?? signal, output }))
  t.teardown(() => child.kill('SIGKILL'))
  return { child, ended }
}

/** Accounts whose tokens an older release sealed; the token names its user. */
async function sealFor(db: Db, count: number, sealing = OLD): Promise<string[]> {
  const vault = createTokenVault([sealing])
  const users = Array.from({ length: count }, () => randomUUIDv7())
  const sealed = users.map(id => vault.seal(`nmv_usr_${id}`, id))
  await db.execute(sql`insert into users (id, kind, language)
    select id, 'guest', 'en' from unnest(${sql.param(users)}::uuid[]) id`)
  await db.execute(sql`insert into upstream_accounts (user_id, kind, client_id, sealed_token, generation, state)
    select id, 'anonymous', gen_random_uuid(), sealed, 1, 'ready'
    from unnest(${sql.param(users)}::uuid[], ${sql.param(sealed)}::text[]) as a (id, sealed)`)
  return users
}

const sealOf = async (db: Db, userId: string) => (await findAccount(db, userId))!.sealedToken!

t.test('a new key is one that the configuration takes', async t => {
  const { code, output } = await keys(t, ['new']).ended
  t.equal(code, 0)
  t.match(output, /^k\d{8}-[0-9a-f]{4}:[A-Za-z0-9+/]{43}=\n$/)
  t.match(toConfig({ ...readEnv({}), TOKEN_KEYS: output.trim() } as Env).tokenKeys, [{ secret: Buffer }])
  t.not((await keys(t, ['new']).ended).output, output)
})

t.test('what is wrong with a call is said, and told apart by the exit code', async t => {
  const none = await keys(t, []).ended
  t.match(none, { code: 64, output: /Usage: npm run keys/ })
  t.match(await keys(t, ['rotete']).ended, { code: 64, output: /no command "rotete"/ })
  t.match(await keys(t, ['status', 'all']).ended, { code: 64, output: /takes no argument/ })
  t.match(await keys(t, ['status']).ended, { code: 78, output: /DATABASE_URL must[\s\S]*TOKEN_KEYS must/ })
  const secret = randomBytes(12).toString('hex')
  const wrong = await keys(t, ['rotate'], { TOKEN_KEYS: `k:${secret}`, DATABASE_URL: 'mysql://x' }).ended
  t.match(wrong, { code: 78, output: /DATABASE_URL[\s\S]*TOKEN_KEYS/ })
  t.notMatch(wrong.output, secret)
  const away = { TOKEN_KEYS: setting(NEW), DATABASE_URL: `postgres://gate:${secret}@127.0.0.1:1/x` }
  const unreachable = await keys(t, ['status'], away).ended
  t.match(unreachable, { code: 69, output: /cannot be reached/ })
  t.notMatch(unreachable.output, secret)
})

t.test('a rotation that is killed goes on where it was, and the old key can go', async t => {
  const { url, database } = await testDatabase(t)
  const { db } = database
  const users = await sealFor(db, 600)
  const env = { DATABASE_URL: url, TOKEN_KEYS: setting(NEW, OLD) }
  t.match(await keys(t, ['status'], env).ended, {
    code: 0,
    output: /new +seals +0 tokens\nold +opens +600 tokens\n"old" is still needed/,
  })

  const killed = keys(t, ['rotate'], env)
  await once(killed.child.stdout, 'data')
  killed.child.kill('SIGKILL')
  t.match(await killed.ended, { code: 'SIGKILL' })
  const halfway = await keyStatus(db, [NEW, OLD])
  t.ok(halfway[0]!.tokens >= 100 && halfway[1]!.tokens > 0, 'it was killed on its way')
  const both = createTokenVault([NEW, OLD])
  for (const id of users) if (both.open(await sealOf(db, id), id) !== `nmv_usr_${id}`) t.fail(id)

  const finished = await keys(t, ['rotate'], env).ended
  t.match(finished, { code: 0, output: /"old" can be removed from TOKEN_KEYS once every gateway/ })
  t.notMatch(finished.output, /nmv_usr_/)
  const alone = createTokenVault([NEW])
  for (const id of users) if (alone.open(await sealOf(db, id), id) !== `nmv_usr_${id}`) t.fail(id)
  t.match(await keys(t, ['status'], { ...env, TOKEN_KEYS: setting(NEW) }).ended, {
    code: 0,
    output: '600 tokens',
  })
})

t.test('a token that a gateway renews meanwhile stays', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const [alice] = (await sealFor(db, 1)) as [string]
  const renewed = createTokenVault([OLD]).seal('nmv_usr_renewed', alice)
  let rotating: ReturnType<typeof rotate> | undefined
  await db.transaction(async tx => {
    const token = { sealedToken: renewed, tokenExpiresAt: null, upstreamUserId: null }
    await storeToken(tx, (await findAccount(tx, alice))!, token)
    rotating = rotate(db, [NEW, OLD])
    // It has read the row as it was before, and waits for this transaction to write it.
    for (let waits = 0; waits === 0; )
      waits = (
        await database.pool.query(
          `select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
        )
      ).rows.length
  })
  t.same(await rotating, { resealed: 0, overtaken: 1, unopened: [] })
  t.equal(await sealOf(db, alice), renewed)
  t.match(await findAccount(db, alice), { generation: 2 })
  t.match(await rotate(db, [NEW, OLD]), { resealed: 1 }, 'and the next one seals it again')
})

t.test('the tokens of accounts that do not serve their user are sealed again too', async t => {
  const { database } = await testDatabase(t)
  const { db } = database
  const [alice] = (await sealFor(db, 1)) as [string]
  await linkToken(db, alice, createTokenVault([OLD]).seal('nmv_usr_own', alice), null)
  t.match(await keyStatus(db, [NEW, OLD]), [{ tokens: 0 }, { tokens: 2 }])
  t.match(await rotate(db, [NEW, OLD]), { resealed: 2, unopened: [] })
  const tokens = (await listAccounts(db, alice)).map(({ sealedToken }) => sealedToken!)
  t.same(
    new Set(tokens.map(sealed => createTokenVault([NEW]).open(sealed, alice))),
    new Set([`nmv_usr_${alice}`, 'nmv_usr_own']),
  )
})

t.test('two rotations at once do no harm', async t => {
  const { database } = await testDatabase(t)
  const users = await sealFor(database.db, 150)
  const [a, b] = await Promise.all([rotate(database.db, [NEW, OLD]), rotate(database.db, [NEW, OLD])])
  t.equal(a!.resealed + b!.resealed, 150)
  for (const id of users)
    if (createTokenVault([NEW]).open(await sealOf(database.db, id), id) !== `nmv_usr_${id}`) t.fail(id)
})

t.test('what does not open is named, left as it is, and makes the command fail', async t => {
  const { url, database } = await testDatabase(t)
  const { db } = database
  const [alice, bob, carol] = (await sealFor(db, 3)) as [string, string, string]
  await sealFor(db, 1, LOST)
  const [hers, his] = [await sealOf(db, alice), await sealOf(db, bob)]
  for (const [id, seal] of [
    [alice, his],
    [bob, hers],
  ])
    await db.execute(sql`update upstream_accounts set sealed_token = ${seal} where user_id = ${id}`)
  const env = { DATABASE_URL: url, TOKEN_KEYS: setting(NEW, OLD) }
  const { code, output } = await keys(t, ['rotate'], env).ended
  t.equal(code, 1)
  t.match(output, `The token of user ${alice}`)
  t.match(output, `The token of user ${bob}`)
  t.match(output, /"lost" is not in TOKEN_KEYS/)
  t.match(output, /"old" is still needed/)
  t.equal(await sealOf(db, alice), his)
  t.equal(createTokenVault([NEW]).open(await sealOf(db, carol), carol), `nmv_usr_${carol}`)
})
