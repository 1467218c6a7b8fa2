import { request } from 'undici'

/** The texts of an upstream's event stream, as one would read it by hand. */
export async function* readStream(url: string): AsyncGenerator<string> {
  const { body } = await request(url, { bodyTimeout: 0 })
  let rest = ''
  body.setEncoding('utf8')
  for await (const piece of body) {
    const frames = (rest + piece).split('\n\n')
    rest = frames.pop()!
    for (const frame of frames) {
      const { content } = JSON.parse(frame.slice('data: '.length))
      yield content.parts[0].text
    }
  }
}
