import t from 'tap'
import { type Intent, intentOf, judgeMessage, type Reason } from '../../../src/services/messages/intents.ts'

const SENTENCES: Record<Intent, string> = {
  export: `
    export
    Export it
    Export!
    please export the video
    Please export the final video now.
    Can you export it, please?
    can you send me the video?
    Could you send me the finished video please
    Send me the video
    get the video
    Give me the final video
    download
    Download the video
    I want to download it
    can i download the video now
    let me download the finished file
    save
    Save it.
    save the video to my phone
    save it as mp4
    render
    Render the video
    render it in high quality
    start the export
    Start rendering please
    Great, export it please!
    Looks good! Export the video.
    Perfect, thanks. Please save it
    I'm ready to export
    let's export
    OK export now
    send me the download link
    export to mp4
    export and download
    Go ahead and render the final cut 🎬
    导出
    导出吧
    导出视频吧
    请导出视频
    帮我导出一下视频
    请帮我下载视频，谢谢
    下载
    我要下载视频
    可以导出了吗？
    把视频导出来
    把视频发给我
    请把做好的视频发给我好吗
    保存视频
    渲染视频
    导出为mp4
    好的，导出吧！
    幫我匯出影片
    下載影片
    请把视频保存到手机
    能不能把最终的视频导出一下？
    I'd like the final video please
    get me the video
    给我视频
    导出成片
    能导出视频了吗`,
  credits: `
    credits
    My credits
    balance
    Credit balance?
    how many credits do I have left
    How many credits are left?
    how many credits left
    How many credits do I have?
    What's my balance?
    what is my credit balance
    show me my credits
    check my balance please
    Do I have any credits left?
    remaining credits
    Can you check my credits?
    can you tell me how many credits i have left
    am I out of credits?
    积分
    余额
    剩余多少积分
    我还有多少积分？
    我还剩多少积分
    积分还剩多少
    查一下积分
    请帮我查询余额
    我的积分余额是多少？
    账户余额
    积分够吗
    還剩多少積分
    check credits
    how many credits remain?
    剩余积分`,
  status: `
    status
    Status?
    progress
    what's the status
    What is the status of the project?
    show tracks
    Show me the tracks
    show timeline
    Please show me the timeline
    what's in it
    What's in it?
    What’s in the timeline right now?
    what do we have so far
    How is it going?
    Is it done yet?
    is the video ready?
    any progress?
    list all the tracks
    Can you show me the current timeline?
    status of my project
    状态
    我想看看现在的时间线
    进度
    现在什么样了
    现在什么样了？
    现在是什么样子
    做到哪了
    视频做好了吗？
    看看时间线
    显示轨道
    查看一下进度
    进度怎么样了
    时间线里有什么
    项目状态
    狀態
    what does my timeline look like?
    show me what is in it
    how does it look so far?
    什么状态
    时间线`,
  upload: `
    upload
    Upload a video
    I want to upload a file
    can I upload my own music?
    upload some photos please
    how do I upload a video?
    Where can I upload my files?
    upload another clip from my phone
    上传
    我要上传视频
    上传一个文件
    怎么上传素材？
    上传照片
    请问在哪里上传视频？
    上傳影片`,
  chat: `
    add a title that says Download now
    export-style colour grade on clip 2
    Render the title in red
    Render it in red
    save the intro for later and cut the rest
    upload counter animation
    regenerate
    add subtitles
    translate the subtitles to Spanish
    make it shorter
    Export the video and then add a title
    export it in the style of a 90s movie
    export a scene of a port with containers
    add a download button graphic
    make a progress bar at the bottom
    add a progress bar
    show the credits at the end
    show the credits
    roll the credits
    add credits
    end credits with my name
    balance the audio
    balance the colours
    fix the white balance
    white balance
    how many credits does a new clip cost?
    what does export mean?
    why did the export fail?
    don't export it
    do not download the video
    stop the export
    cancel the render
    export failed
    status bar animation
    write "status" on the screen
    show tracks of a train in the snow
    show the timeline of World War II
    what's in it for me, as a caption
    upload the video to YouTube
    export to youtube
    share it on Instagram
    save the best moments only
    save the project as a template
    save me from this boring intro
    download a clip of a sunset from Pexels
    get the video shorter
    send me a postcard scene
    send the video to the background
    the video looks too dark
    Hello
    thanks!
    ok
    please
    export as gif
    Export the title text only
    render clip 3 again
    Is the music ready to fade out at the end?
    制作一个关于出口贸易的视频
    添加一个写着“立即下载”的标题
    加一个下载按钮动画
    在结尾加上“导出完成”
    导出前先把片头剪短
    把标题渲染成红色
    不要导出
    取消导出
    导出失败了
    添加积分排行榜动画
    做一个积分商城的宣传片
    调整画面的平衡
    一个积分多少钱
    加一个进度条
    把状态栏去掉
    给视频加上字幕
    重新生成
    翻译成英文
    上传进度动画
    上传到抖音
    上传了
    导出了吗
    怎么导出
    how do I export?
    export the video with subtitles
    export in 4k
    check the balance of the audio
    I uploaded a video
    save the changes
    where is my video
    现在加点音乐
    保存开头的部分，其余的剪掉
    谢谢
    你好
    how does it look with a red title?
    时间线太长了
    trim it and then export
    Trim it, then download it
    after the trim, export
    export after adding a title
    don't export yet
    not export
    never mind the export
    wait with the export
    no download, please
    先别导出
    暂时不导出
    还没好，先不要导出
    剪完再导出
    加字幕然后导出
    can you explain how exporting works?
    what formats can I download?
    is export free?
    when can I download it?
    should I export now?
    how long will the export take?
    导出要多少积分？
    怎么下载？
    积分是怎么算的
    add the text 'download now'
    title: "Export"
    "export"
    say “save” at the end
    加上“下载”两个字
    “导出”
    I attached a clip, make it black and white
    see the attached photo
    use the uploaded photo as the intro
    here is my video
    put the attached song under it
    我上传了一段视频，把它剪短
    用我上传的照片做片头
    见附件
    export only the first 3 seconds
    export the audio
    export both versions
    save draft
    导出音频
    导出前三秒
    生成最终视频文件`,
}

for (const [intent, sentences] of Object.entries(SENTENCES))
  t.test(intent, async t => {
    for (const line of sentences.trim().split('\n')) t.equal(intentOf(line.trim()), intent, line.trim())
  })

t.test('each verdict has its reason', async t => {
  const reasons: [string, Reason][] = [
    ['Please export it', 'asked'],
    ['还剩多少积分', 'asked'],
    [`Export ${'a'.repeat(200)}`, 'too_long'],
    ['make it shorter', 'no_keyword'],
    ['把片头剪短', 'no_keyword'],
    ["add the text 'download now'", 'quoted'],
    ['加上“下载”两个字', 'quoted'],
    ["don't export yet", 'negated'],
    ['先别导出', 'negated'],
    ['how do I export?', 'question'],
    ['怎么导出', 'question'],
    ['trim it and then export', 'mixed'],
    ['加字幕然后导出', 'mixed'],
  ]
  for (const [text, reason] of reasons) t.equal(judgeMessage(text).reason, reason, text)
})

t.test('white space, full width and end marks make no difference', async t => {
  for (const text of ['  export \n', 'ＥＸＰＯＲＴ', 'export!!!', 'Export…', 'export the\n  video.'])
    t.equal(intentOf(text), 'export', JSON.stringify(text))
  for (const text of ['', ' ', '?', '。', '🎬']) t.equal(intentOf(text), 'chat', JSON.stringify(text))
})

t.test('a hostile text costs next to nothing', async t => {
  const units = ['my ', 'please ', 'credits ', 'the final ', '的', '给我', '我的', ' ', '!', '，', 'ﷺ', 'a']
  const started = performance.now()
  for (const unit of units)
    for (const length of [119, 20_000]) {
      const text = unit.repeat(Math.floor(length / unit.length))
      judgeMessage(text)
      judgeMessage(`${text.slice(0, -1)}x`)
      judgeMessage(`show ${text}`.slice(0, length))
    }
  t.ok(performance.now() - started < 250, `${performance.now() - started} ms`)
})
