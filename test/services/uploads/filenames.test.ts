import t from 'tap'
import { labelOf, nameInUrl, upstreamName } from '../../../src/services/uploads/filenames.ts'

t.test('a label shows what the client called the file, and hides nothing', async t => {
  const labels = {
    'beach day.mp4': 'beach day.mp4',
    '夏天 🎬.mov': '夏天 🎬.mov',
    '../../etc/passwd.mp4': 'passwd.mp4',
    '..\\..\\x.mp4': 'x.mp4',
    'C:\\films\\x.mp4': 'x.mp4',
    '/etc/x.mp4': 'x.mp4',
    '..': 'file',
    '': 'file',
    '.mp4': 'mp4',
    'clip.mp4\0.html': 'clip.mp4.html',
    'exe\u202e4pm.mp4': 'exe4pm.mp4',
    'a\r\nb.mp4': 'ab.mp4',
    'a\u2028b\u0007.mp4': 'ab.mp4',
    'half \ud83d.mp4': 'half \ufffd.mp4',
    ' spaced  out .mp4 ': 'spaced out .mp4',
  }
  const found = Object.keys(labels).map(filename => [filename, labelOf(filename)])
  t.strictSame(Object.fromEntries(found), labels)
})

t.test('a long label keeps its extension', async t => {
  const label = labelOf(`${'a'.repeat(300)}.mp4`)
  t.equal(label.length, 255)
  t.match(label, /^a+\.mp4$/)
  t.ok(labelOf('😀'.repeat(300)).isWellFormed())
  t.ok(labelOf('😀'.repeat(300)).length <= 255)
})

t.test('the upstream is told a name that is harmless in a header and in a file system', async t => {
  t.equal(upstreamName('beach day.mp4', 'mp4'), 'beach day.mp4')
  t.equal(upstreamName('夏天.MOV', 'mov'), '夏天.mov')
  t.equal(upstreamName('photo.jpeg', 'jpg'), 'photo.jpg')
  t.equal(upstreamName('con.mp4', 'mp4'), 'upload_con.mp4')
  t.equal(upstreamName('NUL.tar.mp4', 'mp4'), 'upload_NUL.tar.mp4')
  t.equal(upstreamName('-rf.mp4', 'mp4'), 'rf.mp4')
  t.equal(upstreamName('a"b; filename="c.mp4', 'mp4'), 'a_b_ filename=_c.mp4')
  t.equal(upstreamName('$(reboot)`x`.mp4', 'mp4'), '(reboot)_x_.mp4')
  const long = upstreamName(labelOf(`${'夏'.repeat(300)}.mp4`), 'mp4')
  t.ok(Buffer.byteLength(long) <= 200)
  t.match(long, /^夏+\.mp4$/)
  for (const hostile of ['\r\n', '"', '\0', '/', '\\', '%0d%0a'])
    t.notMatch(upstreamName(labelOf(`a${hostile}b.mp4`), 'mp4'), /[\r\n"\0/\\%]/, JSON.stringify(hostile))
})

t.test('the name in an address, without its query', async t => {
  t.equal(nameInUrl('https://example.org/films/beach%20day.mp4?sig=secret'), 'beach day.mp4')
  t.equal(nameInUrl('https://example.org/%zz.mp4'), '%zz.mp4')
  t.equal(nameInUrl('https://example.org/a%2f..%2fb.mp4'), 'b.mp4')
  t.equal(nameInUrl('https://example.org/?secret'), 'link')
  t.equal(nameInUrl('not an address'), 'link')
})
