import t from 'tap'
import { partOf, rangeOf } from '../../../src/services/renders/conditions.ts'

t.test('ranges', async t => {
  t.same(rangeOf('bytes=0-', 10), { start: 0, end: 9 })
  t.same(rangeOf('bytes=2-3', 10), { start: 2, end: 3 })
  t.same(rangeOf('bytes=8-99', 10), { start: 8, end: 9 })
  t.same(rangeOf('bytes=-3', 10), { start: 7, end: 9 })
  t.same(rangeOf('bytes=-99', 10), { start: 0, end: 9 })
  for (const header of ['bytes=10-', 'bytes=-0', 'bytes=99-100']) t.equal(rangeOf(header, 10), 'none', header)
  for (const header of [null, '', 'bytes=-', 'bytes=3-2', 'bytes=0-1,3-4', 'lines=1-2'])
    t.equal(rangeOf(header, 10), 'all', String(header))
})

const film = { etag: '"a"', lastModified: 'Fri, 01 May 2026 10:00:00 GMT', bytes: 10 }
const ask = (conditions: object) =>
  partOf({ range: null, ifRange: null, ifNoneMatch: null, ...conditions }, film)

t.test('a film that the client has is not sent again', async t => {
  for (const ifNoneMatch of ['"a"', 'W/"a"', '"b", "a"', '*'])
    t.same(ask({ ifNoneMatch, range: 'bytes=0-1' }), { status: 304 }, ifNoneMatch)
  for (const ifNoneMatch of ['"b"', 'a', '"a', '']) t.same(ask({ ifNoneMatch }), { status: 200 }, ifNoneMatch)
})

t.test('a part is sent of the film that the client began with, else the whole', async t => {
  const range = 'bytes=2-3'
  for (const ifRange of [null, '"a"', film.lastModified])
    t.same(ask({ range, ifRange }), { status: 206, start: 2, end: 3 }, String(ifRange))
  // RFC 9110 §13.1.5: a weak mark is none for this purpose.
  for (const ifRange of ['"b"', 'W/"a"', 'Sat, 02 May 2026 10:00:00 GMT'])
    t.same(ask({ range, ifRange }), { status: 200 }, ifRange)
  t.same(ask({ range: 'bytes=10-' }), { status: 416 })
})
