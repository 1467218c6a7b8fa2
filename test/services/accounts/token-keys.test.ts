import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { developmentKeys } from '../../../src/services/accounts/token-keys.ts'
import { createTokenVault } from '../../../src/services/accounts/token-vault.ts'

t.test('instances that start at once on one folder use the same key, and so does the next start', async t => {
  const folder = join(t.testdir(), 'data')
  const started = await Promise.all(Array.from({ length: 8 }, () => developmentKeys(folder)))
  const [first] = started
  for (const keys of [...started, await developmentKeys(folder)]) t.same(keys, first)
  t.match(first, [{ id: 'dev' }])
  t.equal(first![0]!.secret.length, 32)
  t.same(await readdir(folder), ['token-key'])
  t.equal((await stat(join(folder, 'token-key'))).mode & 0o077, 0, 'nobody else reads it')
  const vault = createTokenVault(first!)
  t.equal(vault.open(vault.seal('token', 'alice'), 'alice'), 'token')
})

t.test('each folder has a key of its own', async t => {
  const folder = t.testdir()
  const [a, b] = await Promise.all(['a', 'b'].map(name => developmentKeys(join(folder, name))))
  t.notSame(a, b)
})

t.test('a key that was damaged is not taken for one', async t => {
  const folder = t.testdir()
  await writeFile(join(folder, 'token-key'), 'c2hvcnQ=')
  await t.rejects(developmentKeys(folder), { message: /token-key/ })
})
