import t from 'tap'
import { applyChange, lengthOf, type Track } from '../../sandbox/draft.ts'
import { tell } from '../../sandbox/story.ts'
import { intentOf } from '../../sandbox/wishes.ts'
import { framesOf, signIn, startSandbox, textOf } from './helpers.ts'

const clip = applyChange([], { kind: 'clip', title: 'beach', durationMs: 5000, width: 640, height: 360 })

function told(text: string, tracks: Track[] = clip, edits = 0, language = 'en') {
  return tell({ text, language, tracks, edits, runs: 1 })
}

t.test('a sentence is understood in both languages', async t => {
  const table: Record<string, ReturnType<typeof intentOf>> = {
    'Generate a city timelapse': 'generation',
    'make me a short video about coffee': 'generation',
    'regenerate it': 'generation',
    生成一段城市延时视频: 'generation',
    'generate a city video with a title and music': 'generation',
    'add a title "Urban Dreams"': 'title',
    '加一个标题“城市之梦”': 'title',
    'generate some subtitles': 'subtitles',
    生成字幕: 'subtitles',
    'put some jazz music under it': 'music',
    加点背景音乐: 'music',
    'trim it to 3 seconds': 'trim',
    剪到3秒: 'trim',
    'add text that says Sale': 'text',
    'add a title that says Download now': 'title',
    hello: 'chat',
    你好: 'chat',
  }
  for (const [text, intent] of Object.entries(table)) t.equal(intentOf(text), intent, text)
})

t.test('an edit changes the draft', async t => {
  t.strictSame(told('add a title "Urban Dreams"').changes, [{ kind: 'title', title: 'Urban Dreams' }])
  t.strictSame(told('add a title that says Download now').changes, [{ kind: 'title', title: 'Download now' }])
  t.strictSame(told('加一个标题“城市之梦”').changes, [{ kind: 'title', title: '城市之梦' }])
  t.strictSame(told('add jazz at 20%').changes, [])
  t.strictSame(told('add jazz music at 20%').changes, [{ kind: 'music', title: 'Jazz', volume: 0.2 }])
  t.strictSame(told('Add the title Urban Dreams at the start').changes, [
    { kind: 'title', title: 'Urban Dreams' },
  ])
  t.strictSame(told('trim to three seconds').changes, [{ kind: 'trim', toMs: 3000 }])
  t.strictSame(told('cut off the first 2 seconds').changes, [{ kind: 'trim', toMs: 3000 }])
  t.strictSame(told('剪到3秒').changes, [{ kind: 'trim', toMs: 3000 }])
  t.equal(told('trim to 9 seconds').kind, 'text', 'there is nothing to trim')
  t.equal(told('trim to 3 seconds', []).kind, 'text', 'there is no clip')

  const titled = applyChange(clip, { kind: 'title', title: 'One' })
  t.equal(applyChange(titled, { kind: 'title', title: 'Two' }).length, 2, 'a second title replaces the first')
  t.strictSame(told('remove the title', titled).changes, [{ kind: 'remove', role: 'title' }])
  t.equal(told('remove the music', titled).kind, 'text', 'there is none')
  t.equal(lengthOf(applyChange(titled, { kind: 'trim', toMs: 2000 })), 2000)
})

t.test('it answers in the language of the sentence, else of the session', async t => {
  t.match(told('加点音乐').says, /已加入Lo-fi背景音乐/)
  t.match(told('hello', clip, 0, 'zh-CN').says, /我可以/)
  t.match(told('hello').says, /I can trim/)
})

t.test('some answers speak of a screen, and three edits in ten say nothing', async t => {
  const stories = Array.from({ length: 20 }, (_, edits) => told('add music', clip, edits))
  const silent = stories.flatMap((story, i) => (story.silent ? [i + 1] : []))
  t.strictSame(silent, [2, 5, 8, 12, 15, 18])
  t.ok(stories.some(story => /Timeline panel or click Export/.test(story.says)))
  t.ok(stories.some(story => !/Export/.test(story.says)))
})

t.test('the second edit ends silently, and the state tells of it', async t => {
  const sandbox = await startSandbox(t)
  const alice = await signIn(sandbox.url)
  t.notOk('draft' in (await alice.state()), 'nobody spoke yet')
  await (await alice.run('hello')).text()
  t.strictSame((await alice.state()).draft.t, [])

  const spoken = framesOf(await (await alice.run('add a title "One"')).text())
  t.match(textOf(spoken, false), /“One”/)
  const silent = framesOf(await (await alice.run('add music')).text())
  t.equal(textOf(silent, false), '')
  t.match(silent.at(-1), { actions: { skipSummarization: true, stateDelta: { last_edit: 'silent' } } })
  t.equal((await alice.state()).draft.t.length, 2)
})

t.test('a new video comes in two stages', async t => {
  const sandbox = await startSandbox(t, { speed: { generateMs: 400 } })
  const alice = await signIn(sandbox.url)
  const frames = framesOf(await (await alice.run('Generate a city timelapse')).text())
  const drafts = frames.map(frame => frame.actions?.stateDelta?.draft).filter(Boolean)
  t.strictSame(
    drafts.map(draft => draft.t.map((track: { tt: number }) => track.tt)),
    [[0], [0, 1, 7]],
  )
  t.match(await alice.state(), { generated_media: [{ prompt: 'Generate a city timelapse' }] })
})
