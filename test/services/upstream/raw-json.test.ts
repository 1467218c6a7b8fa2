import fc from 'fast-check'
import t from 'tap'
import { rawMember } from '../../../src/services/upstream/raw-json.ts'

t.test('the exact text of a member', async t => {
  const json =
    '{"code":0, "data" : {"state":\n{"draft": {"d": 12345678901234567890.00, "t":[ 1,2 ]} ,"x":null}}}'
  t.equal(rawMember(json, ['data', 'state', 'draft']), '{"d": 12345678901234567890.00, "t":[ 1,2 ]}')
  t.equal(rawMember(json, ['data', 'state', 'x']), 'null')
  t.equal(rawMember(json, ['code']), '0')
  t.equal(rawMember(json, []), json)
  t.equal(rawMember('{"a":"x\\"}","b":true}', ['b']), 'true')
  t.equal(rawMember('{"a":"\\\\","b":"\\u00e9"}', ['b']), '"\\u00e9"')
})

t.test('no such member', async t => {
  const json = '{"a":{"b":[{"c":1}]},"s":"{\\"c\\":1}"}'
  for (const path of [['b'], ['a', 'c'], ['a', 'b', 'c'], ['a', 'b', '0'], ['s', 'c'], ['']]) {
    t.equal(rawMember(json, path), null, path.join('.'))
  }
  t.equal(rawMember('[1]', ['0']), null)
  t.equal(rawMember('', ['a']), null)
})

t.test('keys as JSON.parse sees them', async t => {
  t.equal(rawMember('{"a":1,"a":2}', ['a']), '2', 'the last one wins')
  t.equal(rawMember('{"a":{"b":1},"a":{"c":2}}', ['a', 'b']), null, 'also on the way')
  t.equal(rawMember('{"\\u0061":1}', ['a']), '1', 'escaped')
  t.equal(rawMember('{"__proto__":{"x":1}}', ['__proto__', 'x']), '1')
  t.equal(rawMember('{"a\\"b":1}', ['a"b']), '1')
})

t.test('what is no JSON does not throw or hang', async t => {
  for (const json of [
    '{',
    '{"a',
    '{"a"',
    '{"a":',
    '{"a":}',
    '{"a":1',
    '{"a":1]',
    '{"a" 1}',
    '{"a":"x',
    '{"a":{"b":1',
    '}{',
    '{"a":,"a":1}',
  ]) {
    t.ok(['string', 'object'].includes(typeof rawMember(json, ['a'])), json)
    t.ok(['string', 'object'].includes(typeof rawMember(json, ['a', 'b'])), json)
  }
})

t.test('deep and long documents, in linear time', async t => {
  const deep = `${'{"a":'.repeat(200_000)}1${'}'.repeat(200_000)}`
  const begun = performance.now()
  t.equal(rawMember(`{"x":${deep},"draft":${deep}}`, ['draft'])?.length, deep.length)
  t.equal(rawMember(`{"x":"${'\\\\'.repeat(1_000_000)}","y":2}`, ['y']), '2')
  t.equal(rawMember(`{"x":"${'\\"'.repeat(1_000_000)}","y":2}`, ['y']), '2')
  t.equal(rawMember(`{${' '.repeat(1_000_000)}"y":2}`, ['y']), '2')
  t.ok(performance.now() - begun < 1500)
})

t.test('agrees with JSON.parse on any document', async t => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(4), (document, indent) => {
      const json = JSON.stringify(document, null, indent)
      for (const [key, value] of Object.entries(JSON.parse(json))) {
        t.same(JSON.parse(rawMember(json, [key]) ?? 'undefined'), value)
      }
    }),
    { numRuns: 300 },
  )
})
