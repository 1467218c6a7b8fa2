import { readFile } from 'node:fs/promises'
import t from 'tap'
import { ACCEPTED, HEAD_BYTES, mediaTypeOf } from '../../../src/services/uploads/media-types.ts'

const folder = new URL('../../fixtures/media/', import.meta.url)
const head = async (name: string) => (await readFile(new URL(name, folder))).subarray(0, HEAD_BYTES)

// extension, canonical type, kind, what browsers and phones declare
const FORMATS = [
  ['mp4', 'video/mp4', 'video', ['video/mp4', 'video/mp4; codecs="avc1"', 'VIDEO/MP4']],
  ['mov', 'video/quicktime', 'video', ['video/quicktime']],
  ['avi', 'video/x-msvideo', 'video', ['video/x-msvideo', 'video/avi', 'video/vnd.avi']],
  ['webm', 'video/webm', 'video', ['video/webm']],
  ['mkv', 'video/x-matroska', 'video', ['video/x-matroska', 'video/matroska']],
  ['jpg', 'image/jpeg', 'image', ['image/jpeg', 'image/jpg']],
  ['png', 'image/png', 'image', ['image/png']],
  ['gif', 'image/gif', 'image', ['image/gif']],
  ['webp', 'image/webp', 'image', ['image/webp']],
  ['mp3', 'audio/mpeg', 'audio', ['audio/mpeg', 'audio/mp3']],
  ['wav', 'audio/wav', 'audio', ['audio/wav', 'audio/x-wav', 'audio/vnd.wave']],
  ['m4a', 'audio/mp4', 'audio', ['audio/mp4', 'audio/x-m4a', 'audio/m4a']],
  ['aac', 'audio/aac', 'audio', ['audio/aac', 'audio/x-aac', 'audio/vnd.dlna.adts']],
] as const

t.test('a real file of each format', async t => {
  for (const [extension, mediaType, kind, names] of FORMATS) {
    const bytes = await head(`tiny.${extension}`)
    for (const declared of [...names, '', 'application/octet-stream'])
      t.same(
        await mediaTypeOf({ filename: `My clip.v2.${extension}`, declared, head: bytes }),
        { ok: true, mediaType, extension, kind },
        `${extension} declared as ${declared || 'nothing'}`,
      )
  }
})

t.test('no format passes under the name or the type of another', async t => {
  for (const [name] of FORMATS)
    for (const [other, mediaType] of FORMATS) {
      if (name === other) continue
      const bytes = await head(`tiny.${name}`)
      const renamed = await mediaTypeOf({ filename: `x.${other}`, declared: '', head: bytes })
      // A sound in an mp4 container is told from a video by its brand, which recorders do not always write.
      t.equal(renamed.ok, name === 'mp4' && other === 'm4a', `${name} named ${other}`)
      const declared = await mediaTypeOf({ filename: `x.${name}`, declared: mediaType, head: bytes })
      t.equal(declared.ok, name === 'm4a' && other === 'mp4', `${name} declared ${mediaType}`)
    }
})

t.test('jpeg is jpg, in any case', async t => {
  const bytes = await head('tiny.jpg')
  for (const filename of ['a.jpeg', 'A.JPG', '照片.Jpeg'])
    t.match(await mediaTypeOf({ filename, declared: 'image/jpeg', head: bytes }), {
      ok: true,
      extension: 'jpg',
    })
})

t.test('what only pretends', async t => {
  const pretenders: [string, string, Uint8Array][] = [
    ['page.mp4', 'video/mp4', Buffer.from('<!doctype html><script>alert(1)</script>')],
    ['picture.mp4', 'video/mp4', await head('tiny.png')],
    ['program.mp4', '', Buffer.from('7f454c4602010100000000000000000002003e00', 'hex')],
    ['archive.mov', '', Buffer.from('504b03041400000008000000000000000000', 'hex')],
    ['vector.png', 'image/png', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')],
    ['empty.mp4', 'video/mp4', new Uint8Array()],
    ['short.png', 'image/png', (await head('tiny.png')).subarray(0, 4)],
    ['zeros.mp3', 'audio/mpeg', new Uint8Array(HEAD_BYTES)],
  ]
  for (const [filename, declared, bytes] of pretenders)
    t.same(await mediaTypeOf({ filename, declared, head: bytes }), { ok: false }, filename)
})

t.test('a name without an accepted extension', async t => {
  const bytes = await head('tiny.mp4')
  for (const filename of [
    '',
    'mp4',
    'clip',
    'clip.',
    'clip.mp4.exe',
    'clip.mp4 ',
    'clip.mp4\0.png',
    'clip.__proto__',
    'a.m4v',
  ])
    t.same(
      await mediaTypeOf({ filename, declared: 'video/mp4', head: bytes }),
      { ok: false },
      JSON.stringify(filename),
    )
})

t.test('clients are told the accepted extensions', async t => {
  t.same([...ACCEPTED].sort(), [...FORMATS.map(([extension]) => extension), 'jpeg'].sort())
})
