import t from 'tap'
import { amountField, cleanText, field, textField } from '../../../src/services/upstream/fields.ts'

t.test('the first spelling that has a value', async t => {
  t.equal(field({ a_b: 1 }, 'aB', 'a_b'), 1)
  t.equal(field({ aB: null, a_b: 1 }, 'aB', 'a_b'), 1)
  t.equal(field({ aB: 0, a_b: 1 }, 'aB', 'a_b'), 0)
  for (const value of [null, undefined, 1, 'x', [1], {}]) t.equal(field(value, 'a'), undefined)
  t.equal(field({}, 'constructor', '__proto__', 'toString'), undefined, 'what is inherited is no member')
})

t.test('text that Postgres can store', async t => {
  t.equal(cleanText('a\ud800\0b🎬'), 'a\ufffdb🎬')
  t.equal(textField({ a: '\0' }, 'a'), null)
  t.equal(textField({ a: 7 }, 'a'), null)
})

t.test('amounts', async t => {
  t.equal(amountField({ a: '12.5' }, 'a'), 12.5)
  t.equal(amountField({ a: 0 }, 'a'), 0)
  for (const a of ['', ' ', 'x', -1, Number.NaN, '1e400', true, {}])
    t.equal(amountField({ a }, 'a'), null, String(a))
})
