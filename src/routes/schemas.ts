import Type, { type Static, type TSchema } from 'typebox'
import { PROBLEMS } from '../problems.ts'

/** Every named schema of the API; `routes/index.ts` hands them to Fastify. */
export const namedSchemas: (TSchema & { $id: string })[] = []

/**
 * Gives a schema a name of its own, so that generated clients get a type of that name.
 * @returns a reference to it, which is what routes use
 */
export function named<T extends TSchema>(name: string, schema: T) {
  namedSchemas.push(Object.assign(schema, { $id: name }))
  return Type.Unsafe<Static<T>>({ $ref: `${name}#` })
}

/** One of several named objects, told apart by the literal in `property`. */
export function oneOf<T extends Record<string, TSchema>>(property: string, schemas: T) {
  const names = Object.values(schemas).map(schema => (schema as unknown as { $ref: string }).$ref)
  const mapping = Object.keys(schemas).map((value, i) => [
    value,
    `#/components/schemas/${names[i]!.slice(0, -1)}`,
  ])
  return Type.Unsafe<Static<T[keyof T]>>({
    type: 'object',
    required: [property],
    oneOf: names.map($ref => ({ $ref })),
    discriminator: { propertyName: property, mapping: Object.fromEntries(mapping) },
  })
}

export const strict = { additionalProperties: false }
export const Id = Type.String({ description: 'Opaque id', minLength: 1, maxLength: 64 })
export const Time = Type.String({ format: 'date-time' })
export const oneOfWords = <T extends string>(...words: T[]) => Type.Unsafe<T>({ type: 'string', enum: words })

const ID = '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
export const isId = (text: string) => new RegExp(ID).test(text)

/** A path's id. What is no id at all is as absent as one that is nobody's. */
export const PathId = Type.String({
  pattern: ID,
  description: 'Opaque id',
})
export const IdParams = Type.Object({ id: PathId }, strict)

export const Paging = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
  after: Type.Optional(Type.String({ maxLength: 128, description: '`next` of the page before' })),
}
/** Lists page by the last id they showed. */
export const IdPaging = { limit: Paging.limit, after: Type.Optional(PathId) }

export const listOf = <T extends TSchema>(item: T) =>
  Type.Object({ items: Type.Array(item), next: Type.Union([Type.String(), Type.Null()]) })

const ProblemCode = oneOfWords(...(Object.keys(PROBLEMS) as (keyof typeof PROBLEMS)[]))

export const UserState = named(
  'UserState',
  Type.Object({
    code: ProblemCode,
    message: Type.String({ description: "For the user, in the user's language" }),
    action: Type.Optional(
      Type.Object({
        kind: oneOfWords('register', 'top_up', 'upgrade', 'link_account', 'retry', 'wait'),
        url: Type.Optional(Type.String()),
        retryAt: Type.Optional(Time),
      }),
    ),
  }),
)

const problemFields = {
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  code: ProblemCode,
  retryAfterMs: Type.Optional(Type.Integer()),
  userState: Type.Optional(UserState),
}

/** A problem as it stands in a resource. */
export const StoredProblem = named('StoredProblem', Type.Object(problemFields))

/** A problem as a response (RFC 9457). */
export const Problem = named('Problem', Type.Object({ ...problemFields, requestId: Type.String() }))

export const problemResponse = {
  description: 'A problem (RFC 9457)',
  content: { 'application/problem+json': { schema: Problem } },
}
