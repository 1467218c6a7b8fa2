import Schema from 'typebox/schema'
import { openApiDocument } from '../../src/openapi.ts'
import type { Json } from '../helpers/client.ts'

/** A call that the API offers, as its OpenAPI document describes it. */
export interface Operation {
  name: string
  method: string
  /** With `{…}` where ids belong. */
  path: string
  ids: string[]
  query: Record<string, Json>
  /** The schema of its JSON body. */
  body: Json | null
  /** Who may call it without signing in, who must sign in, and who needs more than that. */
  policy: 'open' | 'optional' | 'signed-in' | 'other'
  changes: boolean
  /** Whether an answer is one that the document announces. */
  announces(status: number, type: string, text: string): boolean
}

const SAFE = new Set(['get', 'head', 'options'])

/** Every call there is: one added later is tested with the others, and not left out by being forgotten here. */
export async function allOperations(): Promise<Operation[]> {
  const document = JSON.parse(await openApiDocument())
  return Object.entries<Json>(document.paths).flatMap(([path, methods]) =>
    Object.entries<Json>(methods).map(([method, described]) => {
      const parameters: Json[] = described.parameters ?? []
      return {
        name: `${method.toUpperCase()} ${path}`,
        method: method.toUpperCase(),
        path,
        ids: [...path.matchAll(/\{(\w+)\}/g)].map(([, id]) => id!),
        query: Object.fromEntries(parameters.filter(p => p.in === 'query').map(p => [p.name, p.schema])),
        body: described.requestBody?.content['application/json']?.schema ?? null,
        policy: policyOf(described.security),
        changes: !SAFE.has(method),
        announces: announcer(document, described.responses),
      }
    }),
  )
}

function policyOf(security: Json[] | undefined): Operation['policy'] {
  if (!security) return 'open'
  if (!security.some(one => 'cookie' in one)) return 'other'
  return security.some(one => Object.keys(one).length === 0) ? 'optional' : 'signed-in'
}

function announcer(document: Json, responses: Record<string, Json>): Operation['announces'] {
  return (status, type, text) => {
    const response = responses[status] ?? responses[`${String(status)[0]}XX`]
    if (!response) return false
    if (!response.content) return text === ''
    const content = response.content[type.split(';')[0]!]
    if (!content) return false
    if (content.schema.format === 'binary') return true
    const { components } = document
    return Schema.Check({ ...content.schema, components } as never, JSON.parse(text))
  }
}

/** A body that the schema takes, with nothing in it that is not required. */
export function smallest(schema: Json): Json {
  if (schema.const !== undefined) return schema.const
  if (schema.enum) return schema.enum[0]
  if (schema.default !== undefined) return schema.default
  if (schema.anyOf) return smallest(schema.anyOf[0])
  if (schema.type === 'object') {
    const required: string[] = schema.required ?? []
    return Object.fromEntries(required.map(name => [name, smallest(schema.properties[name])]))
  }
  if (schema.type === 'array')
    return Array.from({ length: schema.minItems ?? 0 }, () => smallest(schema.items))
  if (schema.type === 'string') return 'a'.repeat(Math.max(2, schema.minLength ?? 0))
  if (schema.type === 'integer' || schema.type === 'number') return schema.minimum ?? 0
  if (schema.type === 'boolean') return false
  return null
}

/** Every field of a body, however deep, as the way to it. */
export function fieldsOf(schema: Json, way: string[] = []): string[][] {
  return Object.entries<Json>(schema?.properties ?? {}).flatMap(([name, field]) => [
    [...way, name],
    ...fieldsOf(field, [...way, name]),
  ])
}

export interface Answer {
  status: number
  type: string
  text: string
  headers: Headers
}

/** What a tus client sends with each method; without it nothing is looked at. */
const RESUMABLE = { 'tus-resumable': '1.0.0' }
const TUS: Record<string, Record<string, string>> = {
  POST: { ...RESUMABLE, 'upload-length': '1', 'upload-metadata': 'filename YS5tcDQ=,filetype dmlkZW8vbXA0' },
  PATCH: { ...RESUMABLE, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' },
  HEAD: RESUMABLE,
  DELETE: RESUMABLE,
}

export async function call(
  url: string,
  operation: Pick<Operation, 'method' | 'path' | 'body'>,
  options: { id?: string; query?: string; body?: unknown; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const path = operation.path.replaceAll(/\{\w+\}/g, options.id ?? '')
  const body = options.body ?? (operation.body ? smallest(operation.body) : undefined)
  const response = await fetch(`${url}${path}${options.query ?? ''}`, {
    method: operation.method,
    redirect: 'manual',
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(path.includes('/resumable') ? TUS[operation.method] : {}),
      ...options.headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const { status, headers } = response
  return { status, headers, type: headers.get('content-type') ?? '', text: await response.text() }
}

/** An answer without what is different each time. */
export const withoutId = ({ status, text }: Answer) => [status, text.replace(/"requestId":"[^"]*"/, '')]
