import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { type Meaning, readFrame } from '../../../src/services/upstream/frames.ts'
import { createSseParser } from '../../../src/services/upstream/sse.ts'
import { createTextAssembler } from '../../../src/services/upstream/text.ts'

const fixtures = new URL('../../fixtures/adk/', import.meta.url)
const frame = (value: unknown) => readFrame(JSON.stringify(value))
const adk = (value: object) => frame({ author: 'nemo_agent', invocationId: 'e-1', ...value })

const SENTENCE = 'Trimming the intro to five seconds. '
const started = (name: string) => ({ kind: 'tool', phase: 'started', name, silent: false })
const finished = (name: string, silent = false) => ({ kind: 'tool', phase: 'finished', name, silent })

// What each recorded stream must come to: visible text, the other meanings in order, and whether it ended whole.
const EXPECTED: Record<string, { text: string; rest: object[]; complete?: boolean }> = {
  'cut-inside-a-frame.sse': { text: 'Trimming ', rest: [], complete: false },
  'empty.streaming-#.sse': { text: '', rest: [] },
  'error-event.streaming-false.sse': { text: '', rest: [{ kind: 'error', code: 'rate_limited' }] },
  'error-event.streaming-true.sse': {
    text: 'Trimming the intro ',
    rest: [{ kind: 'error', code: 'rate_limited' }],
  },
  'error-runner.streaming-#.sse': { text: SENTENCE, rest: [{ kind: 'error', code: 'upstream_unavailable' }] },
  'error-runner.style-py14.sse': {
    text: 'Trimming ',
    rest: [{ kind: 'error', code: 'upstream_unavailable' }],
  },
  'state.streaming-#.sse': {
    text: SENTENCE,
    rest: [started('trim_clip'), finished('trim_clip'), { kind: 'state', keys: ['timeline'] }],
  },
  'text.crlf-framing.sse': { text: 'Trimming the intro ', rest: [] },
  'text.streaming-#.sse': { text: SENTENCE, rest: [] },
  'thought.streaming-#.sse': { text: 'Visible answer.', rest: [] },
  'tool-only.streaming-#.sse': {
    text: '',
    rest: [
      started('apply_silently'),
      finished('apply_silently', true),
      { kind: 'state', keys: ['last_edit'] },
    ],
  },
  'tool.streaming-#.sse': {
    text: SENTENCE,
    rest: [started('get_project_state'), finished('get_project_state')],
  },
  'unicode.streaming-#.sse': { text: 'Zażółć 映像 🎬🏽‍🎤 \u2028sep\u2029 quote " \\ \n newline ', rest: [] },
}

t.test('every recorded stream, whole and byte by byte', async t => {
  for (const name of readdirSync(fixtures).filter(name => name.endsWith('.sse'))) {
    const expected = EXPECTED[name] ?? EXPECTED[name.replace(/streaming-(true|false)/, 'streaming-#')]
    t.ok(expected, `${name} has an expectation`)
    const bytes = readFileSync(new URL(name, fixtures))
    for (const size of [bytes.length || 1, 1]) {
      const parser = createSseParser({ maxFrameBytes: 1 << 24 })
      const assembler = createTextAssembler()
      const rest: Meaning[] = []
      let text = ''
      for (let at = 0; at < bytes.length; at += size) {
        for (const item of parser.push(bytes.subarray(at, at + size))) {
          const meanings = item.kind === 'message' ? readFrame(item.data) : []
          for (const meaning of meanings) {
            if (meaning.kind === 'text') text += assembler.push(meaning.text, meaning.partial)
            else rest.push(meaning)
          }
        }
      }
      t.same({ text: text + assembler.finish(), rest }, { text: expected?.text, rest: expected?.rest }, name)
      t.equal(parser.complete(), expected?.complete ?? true, `${name} ends whole`)
    }
  }
})

t.test('each row of upstream-contract §4', async t => {
  const author = 'nemo_agent'
  const rows: [row: string, data: string, meanings: object[]][] = [
    [
      'text of ADK',
      '{"content":{"parts":[{"text":"Trimming now."}],"role":"model"},"invocationId":"e-1","author":"nemo_agent","actions":{"stateDelta":{}},"id":"1","timestamp":1773423613.6}',
      [{ kind: 'text', text: 'Trimming now.', partial: false }],
    ],
    [
      'a tool call',
      JSON.stringify({
        content: { parts: [{ functionCall: { name: 'edit_multitrack', args: {} } }] },
        author,
      }),
      [started('edit_multitrack')],
    ],
    [
      'a tool result, whose role is user',
      JSON.stringify({
        content: { parts: [{ functionResponse: { name: 'edit_multitrack', response: {} } }], role: 'user' },
        author,
      }),
      [finished('edit_multitrack')],
    ],
    ['errorCode', '{"errorCode":"X","errorMessage":"no"}', [{ kind: 'error', code: 'upstream_unavailable' }]],
    ['error', '{"error":"no"}', [{ kind: 'error', code: 'upstream_unavailable' }]],
    ['typed text', '{"type":"text","content":"Hi"}', [{ kind: 'text', text: 'Hi', partial: true }]],
    ['typed tool_call', '{"type":"tool_call","content":"cut"}', [started('cut')]],
    ['typed tool_result', '{"type":"tool_result","content":"cut"}', [finished('cut')]],
    ['typed heartbeat', '{"type":"heartbeat","content":""}', [{ kind: 'heartbeat' }]],
    ['bare text', '{"text":"Hi"}', [{ kind: 'text', text: 'Hi', partial: true }]],
    ['an empty payload', '', [{ kind: 'heartbeat' }]],
    [
      'partial, in snake_case with text and a tool call',
      '{"partial":false,"content":{"parts":[{"text":"Hi"},{"function_call":{"name":"cut"}}]},"turn_complete":true}',
      [{ kind: 'text', text: 'Hi', partial: false }, started('cut')],
    ],
    [
      'turnComplete, interrupted, usageMetadata',
      '{"turnComplete":true,"interrupted":true,"usageMetadata":{}}',
      [],
    ],
    [
      'stateDelta',
      '{"actions":{"stateDelta":{"draft":{},"temp:x":1}},"longRunningToolIds":[]}',
      [{ kind: 'state', keys: ['draft'] }],
    ],
    ['a thought', '{"content":{"parts":[{"text":"hm","thought":true}]},"author":"nemo_agent"}', []],
    ['an unknown frame', '{"surprise":1}', [{ kind: 'skipped' }]],
    ['a broken frame', '{"content":', [{ kind: 'skipped' }]],
  ]
  for (const [row, data, meanings] of rows) t.same(readFrame(data), meanings, row)
})

t.test('the three shapes', async t => {
  const parts = [{ text: 'Trimming now.' }]
  t.same(adk({ content: { parts, role: 'model' } }), [
    { kind: 'text', text: 'Trimming now.', partial: false },
  ])
  t.same(adk({ content: { parts }, partial: true }), [{ kind: 'text', text: 'Trimming now.', partial: true }])
  t.same(frame({ type: 'text', content: 'Hi' }), [{ kind: 'text', text: 'Hi', partial: true }])
  t.same(frame({ type: 'tool_call', content: { name: 'cut' } }), [started('cut')])
  t.same(frame({ type: 'tool_result', content: 'cut' }), [finished('cut')])
  t.same(frame({ type: 'heartbeat', content: '' }), [{ kind: 'heartbeat' }])
  t.same(frame({ type: 'error', content: 'Session not found' }), [{ kind: 'error', code: 'session_lost' }])
  t.same(frame({ text: 'Hi' }), [{ kind: 'text', text: 'Hi', partial: true }])
  t.same(readFrame(''), [{ kind: 'heartbeat' }])
  t.same(readFrame('  '), [{ kind: 'heartbeat' }])
})

t.test('snake_case twins', async t => {
  const call = { function_call: { name: 'cut' } }
  const result = { function_response: { name: 'cut' } }
  t.same(
    frame({
      author: 'nemo_agent',
      invocation_id: 'e',
      content: { parts: [call, result] },
      actions: { skip_summarization: true, state_delta: { draft: {} } },
    }),
    [started('cut'), finished('cut', true), { kind: 'state', keys: ['draft'] }],
  )
  t.same(frame({ error_code: 'RESOURCE_EXHAUSTED', error_message: 'x' }), [
    { kind: 'error', code: 'rate_limited' },
  ])
  t.same(frame({ finish_reason: 'MAX_TOKENS', content: { parts: [{ text: 'a' }] } }), [
    { kind: 'text', text: 'a', partial: false },
    { kind: 'truncated' },
  ])
})

t.test('who speaks is decided by author, never by role', async t => {
  t.same(adk({ content: { role: 'user', parts: [{ functionResponse: { name: 'cut' } }] } }), [
    finished('cut'),
  ])
  t.same(frame({ author: 'user', content: { role: 'model', parts: [{ text: 'echo' }] } }), [])
})

t.test('thoughts, code and grounding are dropped', async t => {
  const parts = [
    { text: 'secret', thought: true },
    { executableCode: { code: 'x' } },
    { text: 'A' },
    { text: 'B' },
  ]
  t.same(adk({ content: { parts } }), [{ kind: 'text', text: 'AB', partial: false }])
  t.same(adk({ content: { parts: [{ functionCall: { name: 'x' }, thought: true }] } }), [])
})

t.test('calls in a partial event wait for the whole one', async t => {
  const parts = [{ text: 'Cutting' }, { functionCall: { name: 'cut' } }]
  t.same(adk({ content: { parts }, partial: true }), [{ kind: 'text', text: 'Cutting', partial: true }])
  t.same(adk({ content: { parts } }), [{ kind: 'text', text: 'Cutting', partial: false }, started('cut')])
})

t.test('state keys: scoped ones and the prototype are dropped', async t => {
  const data = `{"author":"a","actions":{"stateDelta":{"draft":1,"temp:x":1,"user:y":1,"app:z":1,"__proto__":{"a":1},"gone":null}}}`
  t.same(readFrame(data), [{ kind: 'state', keys: ['draft', 'gone'] }])
  t.same(adk({ actions: { stateDelta: { 'temp:a': 1 } } }), [])
})

t.test('error spellings', async t => {
  const error = (code: string) => [{ kind: 'error', code }]
  t.same(adk({ errorCode: 'SAFETY', errorMessage: 'x' }), error('content_filtered'))
  for (const code of ['BLOCKLIST', 'PROHIBITED_CONTENT', 'RECITATION', 'SPII']) {
    t.same(adk({ errorCode: code }), error('content_filtered'), code)
  }
  t.same(adk({ errorCode: 'RESOURCE_EXHAUSTED' }), error('rate_limited'))
  t.same(adk({ errorCode: '429' }), error('rate_limited'))
  t.same(adk({ errorCode: 429 }), error('rate_limited'))
  t.same(adk({ errorCode: 'MALFORMED_FUNCTION_CALL' }), error('upstream_unavailable'))
  t.same(adk({ errorCode: 'MAX_TOKENS' }), [{ kind: 'truncated' }])
  t.same(adk({ errorCode: 'STOP' }), [])
  t.same(adk({ errorCode: 'FINISH_REASON_UNSPECIFIED' }), [])
  t.same(adk({ errorCode: 'STOP', content: { parts: [{ text: 'x' }] } }), [
    { kind: 'text', text: 'x', partial: false },
  ])
  t.same(frame({ error: 'boom' }), error('upstream_unavailable'))
  t.same(frame({ error: 'boom', error_details: { stack: [] } }), error('upstream_unavailable'))
  t.same(frame({ error: '429 RESOURCE_EXHAUSTED. Quota' }), error('rate_limited'))
  t.same(frame({ error: { code: 429, message: 'slow' } }), error('rate_limited'))
  t.same(frame({ error: { message: 'Token has expired' } }), error('reauth_required'))
  t.same(readFrame('{"error": "callback said "boom"'), error('upstream_unavailable'))
  t.same(readFrame('{"error" : "a'), error('upstream_unavailable'))
  t.same(frame({ error: null, text: 'fine' }), [{ kind: 'text', text: 'fine', partial: true }])
})

t.test('codes inside the stream', async t => {
  const codes = {
    1001: 'reauth_required',
    1011: 'reauth_required',
    1002: 'session_lost',
    2001: 'credits_exhausted',
  }
  for (const [code, meaning] of Object.entries({
    ...codes,
    402: 'upgrade_required',
    4001: 'upstream_unavailable',
  })) {
    t.same(frame({ code: Number(code), message: 'no' }), [{ kind: 'error', code: meaning }], code)
  }
  t.same(frame({ code: 0, message: 'ok' }), [{ kind: 'skipped' }])
})

t.test('unknown and broken frames are skipped, frames without news are silent', async t => {
  for (const data of [
    '{"content":{"parts":[',
    'null',
    '7',
    '[]',
    '"error"',
    '{}',
    '{"hello":1}',
    '{"type":"thinking"}',
  ]) {
    t.same(readFrame(data), [{ kind: 'skipped' }], data)
  }
  t.same(readFrame('{"type":"new","content":"x"}'), [{ kind: 'skipped' }])
  for (const content of [{ parts: 'x' }, { parts: [null, 1, 'x', {}] }, {}]) t.same(adk({ content }), [])
  t.same(adk({ turnComplete: true }), [])
})

t.test('hostile text and shapes', async t => {
  t.same(readFrame('{"text":"a\\ud800b\\u0000c"}'), [{ kind: 'text', text: 'a\ufffdbc', partial: true }])
  const deep = 200_000
  t.same(readFrame(`${'['.repeat(deep)}${']'.repeat(deep)}`), [{ kind: 'skipped' }])
  t.same(readFrame(`{"text":"x","a":${'{"a":'.repeat(deep)}1${'}'.repeat(deep)}}`), [
    { kind: 'text', text: 'x', partial: true },
  ])
  t.same(readFrame('{"__proto__":{"text":"x"}}'), [{ kind: 'skipped' }])
  t.same(adk({ content: { parts: [{ functionCall: { name: 'x'.repeat(9999) } }] } }), [
    started('x'.repeat(128)),
  ])
  const keys = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`k${i}`, 1]))
  const [state] = adk({ actions: { stateDelta: keys } })
  t.equal(state?.kind === 'state' && state.keys.length, 200)
})
