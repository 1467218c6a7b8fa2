import { randomBytes, randomUUID } from 'node:crypto'
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TokenKey } from '../../config.ts'

const KEY_BYTES = 32

/** The development key under `dataDir`, made at the first start. Production brings its own (TOKEN_KEYS). */
export async function developmentKeys(dataDir: string): Promise<TokenKey[]> {
  const path = join(dataDir, 'token-key')
  await mkdir(dataDir, { recursive: true })
  // Put in place whole and once: of two instances that start at once, one makes it and both read the same key.
  const mine = `${path}.${randomUUID()}`
  await writeFile(mine, randomBytes(KEY_BYTES).toString('base64'), { mode: 0o600 })
  await link(mine, path).catch(error => {
    if (error.code !== 'EEXIST') throw error
  })
  await rm(mine)
  const secret = Buffer.from(await readFile(path, 'utf8'), 'base64')
  if (secret.length !== KEY_BYTES)
    throw new Error(`${path} is damaged. Restore it, or delete the folder to begin anew.`)
  return [{ id: 'dev', secret }]
}
