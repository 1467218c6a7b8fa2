import { readFile } from 'node:fs/promises'
import t from 'tap'
import { openApiDocument } from '../src/openapi.ts'

t.test('openapi.json is what the routes say; if not, run `npm run openapi`', async t => {
  t.equal(await readFile(new URL('../openapi.json', import.meta.url), 'utf8'), await openApiDocument())
})

t.test('a client can be generated from it', async t => {
  const document = JSON.parse(await openApiDocument())
  t.match(document, { openapi: /^3\.1\./, info: { title: 'reelgate', version: /^\d+\.\d+\.\d+/ } })
  const text = JSON.stringify(document)
  for (const [, name] of text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g))
    t.ok(document.components.schemas[name!], `${name} is there`)
  t.notMatch(Object.keys(document.components.schemas).join(), /def-\d/, 'every schema has a name')
  for (const schema of Object.values<{
    oneOf?: unknown
    anyOf?: unknown
    discriminator?: { mapping?: object }
  }>(document.components.schemas))
    if (schema.oneOf) t.ok(schema.discriminator?.mapping, 'a choice tells what it depends on')
})

t.test('it says who may call what', async t => {
  const { paths } = JSON.parse(await openApiDocument())
  const open = []
  for (const [path, methods] of Object.entries<Record<string, { security?: unknown }>>(paths))
    for (const [method, { security }] of Object.entries(methods))
      if (!security) open.push(`${method} ${path}`)
  t.notMatch(open.join('\n'), /projects|runs|renders|uploads|credits|me$/)
  t.match(open.join('\n'), 'post /v1/auth/guest')
})
