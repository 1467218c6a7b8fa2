import fc from 'fast-check'
import t from 'tap'
import { custom, decodeCursor, encodeChunk, encodeCursor } from '../../../src/services/events/event.ts'

const PROJECT = '0198c2a4-7d1e-7b3c-8f00-0123456789ab'
const OTHER = '0198c2a4-7d1e-7b3c-8f00-0123456789ac'
const anything = fc.string({ unit: fc.nat(0xffff).map(code => String.fromCharCode(code)) })
const cursorOf = (text: string) => Buffer.from(text).toString('base64url')

t.test('a cursor comes back as it was, in its own project', async t => {
  const seqs = fc.integer({ min: 0, max: 999_999_999_999_999 })
  const epochs = fc.stringMatching(/^[0-9a-z]{1,16}$/)
  fc.assert(
    fc.property(fc.uuid(), epochs, seqs, (project, epoch, seq) => {
      const cursor = encodeCursor(epoch, project, seq)
      const decoded = decodeCursor(cursor, project)
      return /^[\w-]{1,128}$/.test(cursor) && decoded?.epoch === epoch && decoded.seq === seq
    }),
  )
  t.strictSame(decodeCursor(encodeCursor('e1', PROJECT, 7), OTHER), { epoch: '', seq: 7 })
})

t.test('what is no cursor', async t => {
  const tail = PROJECT.slice(-12)
  const texts = ['', 'e1', `e1.${tail}`, `e1.${tail}.`, `.${tail}.1`, `e1.${tail}.-1`, `e1.${tail}.1.5`]
  texts.push(
    `e1.${tail}.1e3`,
    `e1.${tail}.9007199254740992`,
    `e1.${tail}.1\n`,
    `e1.${tail}.１`,
    `E1.${tail}.1`,
  )
  for (const text of texts) t.equal(decodeCursor(cursorOf(text), PROJECT), null, JSON.stringify(text))
  const good = encodeCursor('e1', PROJECT, 1)
  for (const text of ['', '!', '\0', '..', good.padEnd(129, '='), '9'.repeat(1_000_000)])
    t.equal(decodeCursor(text, PROJECT), null)
  fc.assert(fc.property(anything, text => decodeCursor(text, PROJECT) === null))
})

t.test('a chunk is JSON that Postgres stores, whatever was in it', async t => {
  const hostile = { deep: ['a\0b', '\ud800', 'x\udfffy', 'fine 🎬'], huge: Number.POSITIVE_INFINITY }
  const text = encodeChunk(custom('run.progress', hostile))
  t.strictSame(JSON.parse(text), {
    type: 'CUSTOM',
    name: 'run.progress',
    value: { deep: ['ab', '\ufffd', 'x\ufffdy', 'fine 🎬'], huge: null },
  })
  fc.assert(
    fc.property(anything, fc.jsonValue(), (delta, value) => {
      const said = encodeChunk({ type: 'TEXT_MESSAGE_CONTENT', messageId: 'm1', delta })
      t.equal(JSON.parse(said).delta, delta.toWellFormed().replaceAll('\0', ''))
      t.notMatch(
        encodeChunk(custom('actions', value)),
        /[\n\r]/,
        'one line: it is sent as one line of a stream',
      )
    }),
  )
})
