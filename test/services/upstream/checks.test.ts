import t from 'tap'
import { headerValue, isId, isToken, pathId, platformWord } from '../../../src/services/upstream/checks.ts'

t.test('an id cannot change the path', async t => {
  t.equal(pathId('1789456123456789012'), '1789456123456789012')
  for (const id of ['', '..', '.', 'a/b', 'a%2fb', 'a?b', 'a#b', 'a b', 'a\r\nb', 'ä', 'x'.repeat(129)]) {
    t.notOk(isId(id), JSON.stringify(id))
    t.throws(() => pathId(id), TypeError)
  }
  t.notOk(isId(12))
})

t.test('a token or header value cannot add a header, and no error quotes it', async t => {
  t.ok(isToken('nmv_usr_abc.DEF-1'))
  for (const token of ['', 'a b', 'a\r\nx: y', 'a\n', 'ä', 'x'.repeat(4097)])
    t.notOk(isToken(token), JSON.stringify(token))
  t.equal(headerValue('reelgate 1.0'), 'reelgate 1.0')
  try {
    headerValue('secret\r\nx: y')
    t.fail('must throw')
  } catch (error) {
    t.notMatch(String(error), /secret/)
  }
})

t.test('the platform is a short word', async t => {
  t.equal(platformWord('iOS'), 'ios')
  for (const word of ['', 'a b', 'x'.repeat(33), 'web\r\nx: y', '映像'])
    t.equal(platformWord(word), 'unknown')
})
