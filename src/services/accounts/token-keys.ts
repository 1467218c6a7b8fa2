import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TokenKey } from '../../config.ts'

/** The development key under `dataDir`, made at the first start. Production brings its own (TOKEN_KEYS). */
export async function developmentKeys(dataDir: string): Promise<TokenKey[]> {
  const path = join(dataDir, 'token-key')
  await mkdir(dataDir, { recursive: true })
  // `wx`: of two instances that start at once, one writes and both read the same key.
  await writeFile(path, randomBytes(32).toString('base64'), { flag: 'wx', mode: 0o600 }).catch(error => {
    if (error.code !== 'EEXIST') throw error
  })
  return [{ id: 'dev', secret: Buffer.from(await readFile(path, 'utf8'), 'base64') }]
}
