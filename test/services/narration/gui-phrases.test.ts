import t from 'tap'
import { actionsFor, withoutScreenWords } from '../../../src/services/narration/gui-phrases.ts'
import { sentencesOf } from '../../../src/services/narration/sentences.ts'
import { cpuMs } from '../../helpers/cpu.ts'

const stripped = (text: string, language: 'en' | 'zh') => withoutScreenWords(sentencesOf(text, language))
const languageOf = (text: string) => (/\p{Script=Han}/u.test(text) ? 'zh' : 'en')

// text | what is left | actions
const STRIPPED = `
Your video is ready! Preview in Timeline panel or click Export to save it. | Your video is ready! | timeline,export
Click Export to save your video. |  | export
Click the Export button in the top right corner. |  | export
You can click on **Export** whenever you're ready. |  | export
Click "Export" to save, or tell me what to change next. | Tell me what to change next. | export
I added the title, click Export to save it. | I added the title. | export
The title is 3 seconds long and you can preview it in the timeline panel. | The title is 3 seconds long. | timeline
Once you're happy, click **Export**. |  | export
If you want to save it, press the Download button. |  | export
To save your video, press the Download button. |  | export
Drag the clips to rearrange them. |  | message
You can drag the clips to rearrange them. |  | message
Drag and drop your files here to upload. |  | upload
Select the clip, then drag its edge to trim. |  | message
You can arrange the clips on the timeline as you like. |  | message
You can change the order by dragging clips in the timeline. |  | message
Check your account dashboard for remaining credits. |  | credits
Please check your billing page. |  | credits
Open the settings menu and pick a font. |  | message
Visit your dashboard to see your plan. |  | credits
Open the Media panel to see your clips. |  | upload
Open the Export panel, choose MP4, and save it to your device. |  | export
Your video is ready to preview in the timeline panel. | Your video is ready. | timeline
The music fades out at 0:28 — open the timeline panel to check it. | The music fades out at 0:28. | timeline
See the changes in the timeline. |  | timeline
You can now view the result in the preview window. |  | timeline
The Export button is in the top right corner. |  | export
I trimmed clip 2 to 5s (click Preview to see it). | I trimmed clip 2 to 5s. | timeline
Export quality is 1080p, click Export to save. | Export quality is 1080p. | export
Your clip is done. Click Generate to make another. Enjoy! | Your clip is done. Enjoy! | message
1. Click Export. 2. Choose MP4. |  | export
Try dragging the title to a new position. |  | message
Select a clip from the timeline to edit it. |  | message
Right-click the clip and choose Split. |  | message
Click here to download your video: https://cdn.example/x.mp4 |  | export
Your credits are running low. Check your account to top up. | Your credits are running low. | credits
It has 3 tracks and can be exported by clicking Export. | It has 3 tracks and can be exported. | export
点击查看：https://cdn.example/x.mp4 |  | timeline
我已为您添加了标题“城市之梦”，请在预览窗口查看。 | 我已为您添加了标题“城市之梦”。 | timeline
Scroll down to the settings and pick a font. |  | message
视频已完成！请点击导出按钮保存。 | 视频已完成！ | export
标题已添加，您可以在时间线中预览。 | 标题已添加。 | timeline
您可以拖拽片段调整顺序。 |  | message
打开素材面板查看您的文件。 |  | upload
打开时间线面板查看效果。 |  | timeline
导出按钮在右上角。 |  | export
如果满意，点击“导出”即可保存。 |  | export
查看账户余额请前往账单页面。 |  | credits
请查看您的账户。 |  | credits
您的视频已准备好在时间线面板中预览。 | 您的视频已准备好。 | timeline
背景音乐已加入，并可通过拖拽调整位置。 | 背景音乐已加入。 | message
Want changes? Just tell me. Otherwise, click Export. | Want changes? Just tell me. | export
All set. Use the timeline to fine-tune the clips. | All set. | message
Look at the preview window on the left to see the result. |  | timeline
Once rendered, a download link will appear in the Exports tab. |  | export
Head over to the dashboard to see your credits. |  | credits
View in timeline |  | timeline
Preview in timeline |  | timeline
打开右侧的属性面板，修改字体。 |  | timeline
视频做好了，点击导出就可以下载了。 | 视频做好了。 | export
字幕已添加；点击 Export 按钮下载。 | 字幕已添加。 | export
视频已生成。请在时间轴上查看，或点击导出。 | 视频已生成。 | timeline,export
`

const KEPT = `
Export quality is 1080p.
The title says “Click here”.
The title now reads "Open the panel and click Export".
I wrote 'Tap the button' on the last frame.
Click sound added at 0:03.
Tap dance clip trimmed to 5 seconds.
Drop shadow added to the title.
I dropped the music volume to 35%.
I added a Subscribe button overlay at 0:05.
The Subscribe button appears at the bottom right of the frame.
The intro opens with a wide shot.
The beat drop is at 0:10.
Swipe transition added between clip 1 and clip 2.
I've added the title to the timeline.
I arranged the clips by date.
Want me to arrange the clips by date?
Drag race footage trimmed to 8 seconds.
Your timeline has 3 tracks: video, music and title.
The panel discussion was cut to 30 seconds.
The account manager is introduced at 0:12.
Preview frames look sharp.
The dashboard of the car is visible at 0:04.
Your video is ready!
The clip was saved as part of the timeline.
Press coverage clips are in order.
"Ready? Click Export!" is the new title.
See the dashboard of the car at 0:04.
Check the split screen at 0:05!
View the menu of the restaurant at 0:08.
Choose an option and tell me which one you like.
Check the balance between music and voice.
打开窗口的镜头放在开头。
Open on a close-up, then cut to the wide shot.
Check out the new intro — it starts with the skyline!
Save money on your next trip
The title was moved to the top right corner of the frame.
I replaced the clip with the dashboard view of the car.
我把镜头拖长了两秒。
片尾会显示“点击关注”按钮动画。
Timeline (3 tracks): 1. Video: city timelapse (0-10s) 2. BGM: Lo-fi (0-10s, 35%) 3. Title: "Urban Dreams" (0-3s)
点击率提升了20%。
已添加“点击这里”文字。
在时间线上添加了标题。
片头以打开车门的镜头开始。
导出质量为1080p。
已添加点击音效。
标题已添加到时间线。
画面中显示“打开面板”四个字。
拖影效果已移除。
Use a slower cut in the middle?
The video will appear in the background of clip 2.
我可以修改字体。
Otherwise the clip stays as it is.
`

t.test('instructions for a screen go, content stays, actions are offered', async t => {
  for (const line of STRIPPED.trim().split('\n')) {
    const [text = '', left, actions] = line.split(' | ').map(part => part.trim())
    const result = stripped(text, languageOf(text))
    t.equal(result.text, left, text)
    t.equal(result.actions.join(), actions, `actions of: ${text}`)
  }
})

t.test('each row of upstream-contract §6, phrases', async t => {
  const rows: [row: string, texts: string[], actions: string[]][] = [
    ['click [button]', ['Click the Upgrade button.', '点击升级按钮。'], ['credits']],
    ['open [panel]', ['Open the tracks panel.', '打开轨道面板。'], ['timeline']],
    ['drag, drop, arrange', ['Drag the clip to the left.', '拖拽片段到左边。'], ['message']],
    [
      'preview or view in timeline',
      ['Preview in timeline.', 'View in timeline.', '在时间线中预览。'],
      ['timeline'],
    ],
    [
      'Export button, click Export',
      ['Use the Export button.', 'Click Export.', '点击导出按钮。'],
      ['export'],
    ],
    [
      'check account, billing, dashboard',
      ['Check your account.', 'Check the billing page.', '查看账户。'],
      ['credits'],
    ],
  ]
  for (const [row, texts, actions] of rows)
    for (const text of texts)
      t.same(stripped(text, languageOf(text)), { text: '', actions }, `${row}: ${text}`)
})

t.test('content is left alone', async t => {
  for (const text of KEPT.trim().split('\n'))
    t.same(stripped(text, languageOf(text)), { text, actions: [] }, text)
})

t.test('an invitation that needs no screen stays, and is offered', async t => {
  for (const text of ['You can now export your video.', '您可以导出视频了。'])
    t.same(stripped(text, languageOf(text)), { text, actions: ['export'] })
})

t.test('white space and paragraphs stay as they were', async t => {
  t.equal(stripped('Your video is ready! ', 'en').text, 'Your video is ready! ')
  t.equal(stripped('Click Export. ', 'en').text, '')
  t.equal(stripped('Done. Click Export.\n\nThe title is red.', 'en').text, 'Done.\n\nThe title is red.')
  t.equal(
    stripped('- Title added\n- Click Export\n- Music added\n', 'en').text,
    '- Title added\n- Music added\n',
  )
  t.equal(stripped('', 'en').text, '')
})

t.test('the language of the sentence decides, not that of the project', async t => {
  t.same(stripped('视频已完成！请点击导出按钮保存。', 'en'), {
    text: '视频已完成！',
    actions: ['export'],
  })
  t.same(stripped('Done! Click Export.', 'zh'), { text: 'Done!', actions: ['export'] })
})

t.test('actions are calls of our own API', async t => {
  t.same(actionsFor(['export', 'timeline', 'export'], 'p1', 'en'), [
    { kind: 'export', label: 'Export video', method: 'POST', href: '/v1/projects/p1/renders', body: {} },
    { kind: 'timeline', label: 'Show timeline', method: 'GET', href: '/v1/projects/p1/timeline' },
  ])
  t.same(actionsFor(['credits', 'upload', 'message'], 'a/b', 'zh'), [
    { kind: 'credits', label: '查看积分', method: 'GET', href: '/v1/credits' },
    { kind: 'upload', label: '上传文件', method: 'POST', href: '/v1/projects/a%2Fb/uploads' },
    { kind: 'message', label: '描述要做的修改', method: 'POST', href: '/v1/projects/a%2Fb/messages' },
  ])
})

t.test('a hostile text stays cheap', async t => {
  const units = [
    ' ',
    'a ',
    'click ',
    'you can ',
    '(',
    ', ',
    '"',
    "'",
    '.',
    '- ',
    'the ',
    'to view it in ',
    '在时间线',
    '可以',
    '把',
    '，',
    '1. ',
    'x’',
  ]
  for (const unit of units)
    for (const text of [unit.repeat(1_990 / unit.length), `a${unit.repeat(20_000 / unit.length)}b`]) {
      const ms = cpuMs(() => {
        stripped(text, languageOf(text))
        stripped(`preview ${text}`, 'en')
      })
      t.ok(ms < 200, `${JSON.stringify(unit)} × ${text.length}: ${ms} ms`)
    }
})
