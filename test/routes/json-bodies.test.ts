import t from 'tap'
import { refusalOf } from '../../src/routes/json-bodies.ts'
import { testApp } from '../helpers/app.ts'
import { type Json, signIn } from '../helpers/client.ts'

const why = (text: string) => refusalOf(text, JSON.parse(text))
const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
const keys = (count: number) => `{${Array.from({ length: count }, (_, i) => `"k${i}":0`).join()}}`

t.test('what is JSON and refused all the same', async t => {
  const refused: [text: string, why: RegExp][] = [
    [nested(33), /32 levels/],
    [keys(1_001), /1000 keys/],
    [`[${keys(501)},${keys(500)}]`, /1000 keys/],
    [`[${'0,'.repeat(1_000)}0]`, /1000 items/],
    ['{"a":1e400000}', /number/],
    ['{"a":"\\u0000"}', /character/],
    ['{"a":"\\ud800"}', /character/],
    ['{"\\udc00":1}', /character/],
    ['{"a":1,"a":2}', /twice/],
    ['{"a":1,"\\u0061":2}', /twice/],
    ['{"b":[{"a":{},"c":1,"a":"a:"}]}', /twice/],
  ]
  for (const [text, reason] of refused) t.match(why(text), reason, text.slice(0, 40))
  const taken = [
    nested(32),
    keys(1_000),
    'null',
    '"a"',
    '{"a":{"a":[{"a":"a"}]},"b":"\\"a\\":"}',
    '{"a" : "\\\\" , "b":"\\ud83d\\ude00","c":-1.5e3}',
    '["a","a:","{\\"x\\":1}"]',
  ]
  for (const text of taken) t.equal(why(text), null, text.slice(0, 40))
})

t.test('a megabyte of it takes no time', async t => {
  const { url } = await testApp(t)
  const { token } = await signIn(url)
  const half = 500_000
  const bodies = [
    `{"name":"${'\\"'.repeat(half)}`,
    `{"name":"${'\\"'.repeat(half)}"}`,
    `{"name":"${'\\'.repeat(half * 2)}"}`,
    `{"name":"${' '.repeat(half)}"${' '.repeat(half)}:1}`,
    nested(half),
    '{"a":'.repeat(200_000),
    `[${'0,'.repeat(half)}0]`,
    `[${'"a",'.repeat(half / 2)}"a"]`,
    keys(90_000),
  ]
  for (const body of bodies) {
    const answer = await fetch(`${url}/v1/projects`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body,
    })
    t.equal(answer.status, 400, body.slice(0, 30))
    t.match((await answer.json()) as Json, { code: 'invalid_request' })
  }
})

t.test('one parser, for UTF-8', async t => {
  const { url } = await testApp(t)
  const { token } = await signIn(url)
  const ask = async (type: string) => {
    const answer = await fetch(`${url}/v1/projects`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': type },
      body: '{}',
    })
    return answer.status
  }
  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'Application/JSON;charset="UTF-8"',
  ])
    t.equal(await ask(type), 201, type)
  for (const type of [
    'application/json; charset=utf-16',
    'application/json; charset=x',
    'application/jsonx',
    'application/x-www-form-urlencoded',
    'text/plain',
    'text/plain; application/json',
    'application/problem+json',
    'json',
  ])
    t.equal(await ask(type), 400, type)
})
