import fc from 'fast-check'
import t from 'tap'
import { inParts } from '../../../src/services/events/parts.ts'

const KIB = 1024

/** Entries with chunks of so many KiB. */
const blockOf = (sizes: number[]) =>
  sizes.map((size, i) => ({
    projectId: 'p',
    seq: i + 1,
    runId: null,
    at: new Date(0),
    chunk: 'x'.repeat(size * KIB),
  }))
const sizeOf = (part: { chunk: string }[]) => part.reduce((sum, { chunk }) => sum + chunk.length, 0)

t.test('a block in parts is the whole block, and a part is small or a single entry', async t => {
  const sizes = fc.array(fc.oneof(fc.nat(40), fc.constantFrom(200, 255, 256, 257, 600)), { minLength: 1 })
  const property = fc.property(sizes, sizes => {
    const block = blockOf(sizes)
    const parts = inParts(block)
    const whole = parts.flat()
    return (
      whole.length === block.length &&
      whole.every((entry, i) => entry === block[i]) &&
      parts.every(part => part.length === 1 || (part.length > 1 && sizeOf(part) <= 256 * KIB)) &&
      parts.slice(1).every((part, i) => sizeOf(parts[i]!) + part[0]!.chunk.length > 256 * KIB)
    )
  })
  t.doesNotThrow(() => fc.assert(property))
})

t.test('what is small stays as it is, and who has the same block has the same parts', async t => {
  const small = blockOf([100, 156])
  t.equal(inParts(small)[0], small, 'so that it is framed once for all')
  const large = blockOf([100, 157])
  t.equal(inParts(large).length, 2)
  t.equal(inParts(large), inParts(large))
})
