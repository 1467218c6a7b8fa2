import { writeFile } from 'node:fs/promises'
import { readEnv, toConfig } from './config.ts'
import { createHttp } from './http.ts'
import type { Services } from './routes/index.ts'

/** The OpenAPI 3.1 document of all routes, as JSON text. Needs no database: routes are described, not run. */
export async function openApiDocument(): Promise<string> {
  const config = toConfig({ ...readEnv({}), LOG_LEVEL: 'silent', OPS_TOKEN: 'described' })
  const services = {} as Services
  const closing = new AbortController().signal
  const http = await createHttp({ config, services, closing, isReady: async () => false })
  await http.ready()
  const document = `${JSON.stringify(http.swagger(), null, 2)}\n`
  await http.close()
  return document
}

if (import.meta.main) await writeFile(new URL('../openapi.json', import.meta.url), await openApiDocument())
