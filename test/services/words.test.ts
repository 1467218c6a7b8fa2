import t from 'tap'
import { PROBLEMS } from '../../src/problems.ts'
import { languageOf, problemWords, words } from '../../src/services/words.ts'

t.test('Chinese for every Chinese tag, English for all else', async t => {
  for (const tag of ['zh', 'zh-CN', 'zh-Hant', 'zh_TW', 'ZH-hans-cn', ' zh '])
    t.equal(languageOf(tag), 'zh', tag)
  for (const tag of ['en', 'en-GB', 'ja', 'es', '', 'zha', 'x-zh', '*']) t.equal(languageOf(tag), 'en', tag)
})

t.test('what a problem tells a user', async t => {
  t.match(problemWords('en', 'credits_exhausted', false), /Register/)
  t.match(problemWords('en', 'credits_exhausted', true), /Top up/)
  t.match(problemWords('zh', 'credits_exhausted', false), /注册/)
  t.match(problemWords('zh', 'credits_exhausted', true), /充值/)
  t.equal(problemWords('en', 'internal', true), undefined)
  t.equal(problemWords('en', '__proto__', true), undefined)
})

t.test('every sentence belongs to a problem that exists', async t => {
  for (const key of Object.keys(words.en.userStates))
    t.ok(key.replace(/_(anonymous|registered)$/, '') in PROBLEMS, key)
})

t.test('sentences are whole, short and speak of no screen', async t => {
  const sentences = (language: 'en' | 'zh') => [
    ...Object.values(words[language].userStates),
    ...Object.values(words[language].notes),
    words[language].silent.unchanged,
    words[language].answers.export,
    words[language].answers.credits(1),
    words[language].answers.upload(['mp4', 'mov'], 500),
  ]
  for (const sentence of sentences('en')) {
    t.match(sentence, /^[A-Z].*\.$/)
    t.ok(sentence.length <= 150, sentence)
    t.notMatch(sentence, /click|button|panel|error|code/i)
  }
  for (const sentence of sentences('zh')) {
    t.match(sentence, /。$/)
    t.ok(sentence.length <= 75, sentence)
    t.notMatch(sentence, /点击|按钮|面板|错误/)
  }
})
