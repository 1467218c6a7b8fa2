import compilers from '@fastify/fast-json-stringify-compiler'

/**
 * Fastify's serializers, one for each schema instead of one for each answer of each route: two of three answers are
 * problems. Most of a start went into compiling them again.
 */
export function sharedSerializers(): compilers.SerializerFactory {
  const createCompiler = compilers.SerializerSelector()
  const known = new WeakMap<object, compilers.Serializer>()
  return (schemas, options) => {
    const compile = createCompiler(schemas, options)
    return route => {
      const schema = route.schema as object
      const serializer = known.get(schema) ?? compile(route)
      known.set(schema, serializer)
      return serializer
    }
  }
}
