import t from 'tap'
import { testApp } from '../helpers/app.ts'
import { follow, runEnded, signIn } from '../helpers/client.ts'

const { url } = await testApp(t)

t.test('a title that was asked for is in the subtitles', async t => {
  const alice = await signIn(url)
  const projectId = await alice.projectWithClip()
  const live = await follow(t, alice, projectId)
  const text = 'Add a title that says "Urban Dreams" for the first three seconds'
  const { run } = await alice.post(`/v1/projects/${projectId}/messages`, { text })
  await live.next(runEnded(run.id))

  const subtitles = (format = '', token = alice.token) =>
    fetch(`${url}/v1/projects/${projectId}/subtitles${format}`, {
      headers: { authorization: `Bearer ${token}` },
    })
  const srt = await subtitles()
  t.equal(srt.headers.get('content-type'), 'application/x-subrip; charset=utf-8')
  t.equal(await srt.text(), '1\n00:00:00,000 --> 00:00:03,000\nUrban Dreams\n')
  const vtt = await subtitles('?format=vtt')
  t.equal(vtt.headers.get('content-type'), 'text/vtt; charset=utf-8')
  t.match(await vtt.text(), /^WEBVTT\n/)

  t.equal((await subtitles('?format=ass')).status, 400)
  t.equal((await subtitles('', (await signIn(url)).token)).status, 404, 'not for somebody else')
})
