import t from 'tap'
import { sharedSerializers } from '../../src/routes/serializers.ts'

const schemas = { Name: { $id: 'Name', type: 'object', properties: { name: { type: 'string' } } } }
const route = (url: string, schema: object) => ({ method: 'GET', url, httpStatus: '200', schema })
const answer = { name: 'Alice', secret: 'nobody asked for it' }

t.test('answers of one schema share its serializer, also between routes and plugins', async t => {
  const createCompiler = sharedSerializers()
  const named = { $ref: 'Name#' }
  const first = createCompiler(schemas)(route('/a', named))
  t.equal(first(answer), '{"name":"Alice"}')
  t.equal(createCompiler(schemas)(route('/b', named)), first)
})

t.test('another schema has another serializer, however alike they look', async t => {
  const compile = sharedSerializers()(schemas)
  const names = compile(route('/a', { type: 'object', properties: { name: { type: 'string' } } }))
  const secrets = compile(route('/b', { type: 'object', properties: { secret: { type: 'string' } } }))
  t.equal(names(answer), '{"name":"Alice"}')
  t.equal(secrets(answer), '{"secret":"nobody asked for it"}')
})
