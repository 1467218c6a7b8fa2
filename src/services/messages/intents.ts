export type Intent = 'chat' | 'export' | 'credits' | 'status' | 'upload'

// No request for an intent is longer; what is longer is not looked at, which bounds the work for a hostile text.
const MAX_LENGTH = 120
const MAX_TRIMMED = 6

/** Why a message was taken for what it is; all but `asked` mean a chat. */
export type Reason =
  /** the whole sentence asks for the intent */
  | 'asked'
  | 'too_long'
  /** it holds none of the words of an intent */
  | 'no_keyword'
  /** such a word stands in quotes only: it is content */
  | 'quoted'
  | 'negated'
  /** it asks about the intent, not for it */
  | 'question'
  /** it asks for something else, too */
  | 'mixed'

/**
 * What a message asks for (upstream-contract §6). Only a whole sentence that asks for nothing else is an
 * intent; a keyword inside an editing request, or any doubt, is a chat.
 */
export function judgeMessage(text: string): { intent: Intent; reason: Reason } {
  const trimmed = text.trim()
  if (trimmed.length > MAX_LENGTH) return { intent: 'chat', reason: 'too_long' }
  const sentence = normalise(trimmed)
  const intent = /\p{Script=Han}/u.test(sentence)
    ? recognise(simplified(sentence).replaceAll(' ', ''), ZH_BEFORE, ZH_AFTER, ZH)
    : recognise(sentence, EN_BEFORE, EN_AFTER, EN)
  return { intent, reason: intent === 'chat' ? doubtAbout(trimmed) : 'asked' }
}

export const intentOf = (text: string): Intent => judgeMessage(text).intent

const KEYWORD =
  /\b(?:export|download|sav(?:e|ing)|render|credits?|balance|status|progress|tracks?|timeline|upload)|导出|下载|保存|渲染|积分|余额|状态|进度|轨道|时间线|上传/i
const QUOTED = /“[^”]*”|"[^"]*"|「[^」]*」|(?<![\p{L}\p{N}])['‘][^'’]*['’](?![\p{L}\p{N}])/gu
const NEGATION = /\b(?:not|no|never|without|cancel|stop|undo)\b|n't\b|n’t\b|不|别|取消|停止|暂时|先不|没/i
const QUESTION =
  /^(?:how|why|what|when|where|which|should|is|does|do)\b|[?？]\s*$|怎么|如何|为什么|什么|多少|吗/i

/** What speaks against an intent, the plainest first. */
function doubtAbout(text: string): Reason {
  if (!KEYWORD.test(text)) return 'no_keyword'
  if (!KEYWORD.test(text.replace(QUOTED, ''))) return 'quoted'
  if (NEGATION.test(text)) return 'negated'
  return QUESTION.test(text) ? 'question' : 'mixed'
}

/** Takes courtesy off both ends, a piece at a time, and looks at what is left each time. */
function recognise(sentence: string, before: RegExp, after: RegExp, table: Table): Intent {
  let core = sentence
  for (let i = 0; i <= MAX_TRIMMED; i++) {
    for (const [intent, pattern] of table) if (pattern.test(core)) return intent
    const shorter = core.replace(before, '')
    core = shorter === core ? core.replace(after, '') : shorter
  }
  return 'chat'
}

function normalise(text: string): string {
  return text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[‘’]/g, "'")
    .replace(/\p{Extended_Pictographic}|\ufe0f|\u200d/gu, '')
    .replace(/\s+/g, ' ')
    .replace(/^[ .!~,;:…。，、]+/, '')
    .replace(/[ .!?~,;:…。，、]+$/, '')
}

type Table = readonly (readonly [Exclude<Intent, 'chat'>, RegExp])[]

const words = (list: string) => list.trim().replace(/\n\s*/g, '')
const whole = (...forms: string[]) => new RegExp(`^(?:${forms.join('|')})$`)

const EN_BEFORE = new RegExp(
  `^(?:${words(`
    ok|okay|great|great job|perfect|nice|cool|awesome|thanks|thank you|yes|yep|good|hi|hello|hey|now|then|so|and|
    all right|alright|(?:that |it |this )?looks (?:good|great|perfect|amazing)|(?:i )?love it|i'm done|i am done|
    please|pls|plz|kindly|just|go ahead and|(?:can|could|would|will) you|(?:can|could|may) i|(?:can|could) we|
    (?:i|we) (?:want|need|would like) (?:you )?to|(?:i|we)'d like (?:you )?to|i wanna|let's|let us|let me|help me|tell me|
    (?:i'm |i am |we're |it's )?ready to|(?:it's |it is )?time to
  `)})[,.!;:]* `,
)
const EN_AFTER = new RegExp(
  `[,.!;]* (?:${words(`
    please|pls|plz|now|right now|for me|thanks|thank you|thx|asap|already|as soon as possible|if possible|
    if you can|when you can|when you're ready|today|then|again|ok|okay
  `)})$`,
)

const DET = '(?:the|my|our|this|that|your) '
const ADJ = '(?:(?:final|finished|edited|completed|whole|entire|full|current|new|rendered|exported) ){0,3}'
const VIDEO = `(?:it|this|that|everything|(?:${DET})?${ADJ}(?:video|video file|movie|film|file|cut|reel|edit|result|mp4))`
const EXPORTED = `(?:${VIDEO}|(?:${DET})?${ADJ}(?:project|clip|timeline|sequence))`
const FORMAT =
  '(?:as|to|in|into) (?:an? )?(?:mp4|video|hd|full hd|1080p|(?:high|best|full|highest) quality)(?: (?:file|format|video))?'
const PLACE =
  '(?:to|on|onto) (?:my |the |this )?(?:phone|computer|device|laptop|desktop|disk|pc|mac|camera roll|gallery)'
const HOW = `(?: ${FORMAT})?(?: ${PLACE})?`
const ACCOUNT = '(?:my |our |the |current |remaining |available |total |account |credit |credits )'
const LOOK = '(?:show(?: me)?|see|check|view|get|give me|tell me|display|list|look at)'
const MEDIA =
  '(?:video|clip|file|photo|picture|image|song|track|audio|sound|music|footage|media|recording)s?(?: file)?s?'

const EN: Table = [
  [
    'export',
    whole(
      `(?:export|download|render)(?: ${EXPORTED})?${HOW}`,
      `(?:save|output)(?: ${VIDEO})?${HOW}`,
      `(?:send|give|get|share|show)(?: me)? (?:the |a |my )?(?:download|video|export) link`,
      `(?:send|give|get|hand) me ${VIDEO}${HOW}`,
      `(?:send|share|get|give) ${DET}${ADJ}(?:video|movie|film|file|mp4)(?: (?:to|with) me)?`,
      `(?:send|share) (?:it|this)(?: over)? (?:to|with) me|i(?: want| need|'d like| would like) ${DET}${ADJ}(?:video|file|mp4)|have ${DET}${ADJ}video`,
      `(?:start|begin|do|run|make) (?:the |an? )?(?:final )?(?:export|render|exporting|rendering|download)`,
      `export (?:and|&) download(?: ${VIDEO})?|(?:final )?(?:export|render)`,
    ),
  ],
  [
    'credits',
    whole(
      `(?:${ACCOUNT}){0,3}(?:credits|balance)(?: (?:left|remaining|balance|available))?`,
      `${LOOK} (?:my|our|the remaining|the current|remaining|my remaining) (?:credit |credits |account )?(?:credits|balance|credit)`,
      `${LOOK} (?:the )?(?:credits? balance|account balance|remaining credits|credits left|balance)`,
      'how (?:many|much) (?:more )?(?:free )?credits?(?: do (?:i|we) (?:still )?have| have (?:i|we) got| are| is)?(?: there)?(?: still)?(?: left| remaining| available)?',
      'how (?:many|much) credits? (?:(?:i|we) (?:still )?have|remain)(?: left)?|check credits|how much balance (?:do i have|is left)(?: left)?',
      `what(?:'s| is|'re| are) (?:${ACCOUNT}){1,3}(?:credits|balance)`,
      '(?:do|have) (?:i|we) (?:still )?(?:have|got) (?:any |enough |more )?credits(?: left| remaining)?',
      'are there (?:any|still) credits left|am i (?:running low on|(?:running )?out of) credits|any credits left|(?:credits|balance) check',
    ),
  ],
  [
    'status',
    whole(
      '(?:the |project |current |video |render |export )?(?:status|progress)(?: (?:update|report|check)| of (?:the |my )?(?:project|video|render|export))?',
      "(?:what(?:'s| is)|give me|tell me|show me|show|check|get) (?:me )?(?:the |my |our |a )?(?:current |project |video |render |export )?(?:status|progress|state)(?: update| report)?(?: of (?:the |my |this )?(?:project|video|render|export|it))?",
      "(?:what(?:'s| is)|how(?:'s| is)) the (?:current |project )?(?:status|progress|state)",
      `${LOOK} (?:the |my |our |all |all the )?(?:current )?(?:tracks|timeline|track list|tracks and timeline)`,
      "what(?:'s| is) (?:currently )?(?:in|on) (?:it|there|the timeline|my timeline|the video|my video|the project|my project|this video|this project)(?: so far| right now| now)?",
      'what (?:do|have) (?:we|you|i) (?:have|got|done)(?: so far)|show me what (?:we|you) have(?: so far)?|what does (?:it|(?:the|my) (?:timeline|video)) look like(?: so far| now)?',
      "show me what(?:'s| is) (?:in it|there|on the timeline)|how does (?:it|the video|my video) look(?: so far| now)?",
      "(?:how(?:'s| is) (?:it|everything|the (?:video|edit|render|export)) (?:going|coming along)|how far (?:along )?(?:are you|are we|is it))",
      '(?:is|are) (?:it|we|the video|my video|the render|the export|the edit) (?:done|ready|finished|complete)(?: yet)?',
      'any (?:progress|updates?|news)|are you (?:done|finished)(?: yet)?|(?:which|what) tracks (?:are there|do i have|do we have)',
    ),
  ],
  [
    'upload',
    whole(
      `upload(?: (?:an?|another|one|some|the|my|my own|more|new|a new|our|this|these|a few|several))?(?: (?:own|more|new|other|short|local))?(?: ${MEDIA})?(?: from (?:my |the )?(?:phone|computer|device|laptop|camera roll|gallery|desktop))?`,
      `(?:how|where) (?:do|can|should|would) i upload(?: (?:an?|my|the|some|more|new|my own))?(?: ${MEDIA})?`,
      `add (?:an?|my|another) upload|(?:start|make|do) (?:an?|the) upload`,
    ),
  ],
]

const ZH_BEFORE = new RegExp(
  `^(?:${words(`
    好的|好|嗯|行|可以了|很好|太棒了|不错|完美|谢谢|你好|您好|请问|请你|请|麻烦你|麻烦您|麻烦|帮我|帮忙|给我|替我|
    你?能不能|您?能不能|你?可不可以|您?可不可以|能否|可否|你能|您能|能|可以|我可以|我能|我想要|我想|我要|我需要|我们要|
    想要|想|要|需要|那就|那么|那|就|现在|直接|马上|立即|立刻|快|开始|再|来
  `)})[,.!;:，。！、]*`,
)
const ZH_AFTER = new RegExp(
  `[,.!;，。！、]*(?:${words('吧|吗|呢|啊|呀|哦|嘛|啦|好吗|可以吗|行吗|好不好|谢谢你|谢谢|多谢|给我|一下|现在|就行|就好')})$`,
)

const ZH_VIDEO =
  '(?:(?:这个|这段|那个|该|我的|我们的|最终|最终的|最后的|完整|完整的|成品|做好的|剪好的|编辑好的|完成的|全部){0,3}(?:视频|影片|成片|片子|作品|文件|成品|mp4|它))'
const ZH_TO = '(?:(?:成|为|到)(?:mp4|视频|文件|高清|手机|电脑|本地|相册|桌面)(?:格式|视频|文件|里|上)?)'
const ZH_MINE = '(?:我|我的|账户|账号|帐户|帐号|当前|目前|现在|剩余|剩下|剩下的|可用|可用的|还|里|的)'
const ZH_LOOK = '(?:查看|查询|查|看看|看下|看一下|看|显示|列出|告诉我)(?:一下|下)?'

const ZH: Table = [
  [
    'export',
    whole(
      `(?:导出|下载|渲染|输出|保存)(?:一下|下)?${ZH_VIDEO}?${ZH_TO}?`,
      `(?:把|将)${ZH_VIDEO}(?:导出来|(?:导出|下载|渲染|输出|保存)(?:出来|下来|一下|下)?)${ZH_TO}?`,
      `(?:把|将)?${ZH_VIDEO}(?:发给我|给我|传给我|发过来|发我|发送给我)`,
      `(?:可以|能)(?:导出|下载|保存)${ZH_VIDEO}?了?(?:吗|么)|(?:发送|发|传)(?:给我|我)?${ZH_VIDEO}|发给我|给我${ZH_VIDEO}|(?:导出|下载|渲染)(?:出来|下来)|(?:视频)?下载链接|${ZH_VIDEO}(?:导出|下载)`,
    ),
  ],
  [
    'credits',
    whole(
      `(?:${ZH_LOOK})?${ZH_MINE}{0,5}(?:积分余额|账户余额|积分|余额)(?:情况)?`,
      `${ZH_MINE}{0,4}(?:有|剩|剩余|剩下|还有|还剩|还剩下)?(?:多少|几个|几)(?:个|点)?(?:积分|余额)(?:可用|可以用|剩余)?`,
      `${ZH_MINE}{0,4}(?:积分余额|积分|余额)(?:还)?(?:剩余|剩下|剩|有|是|还有|还剩|余)?(?:多少|几个|几)`,
      '(?:我的)?(?:积分|余额)(?:还)?(?:够不够|够用|够|用完了|用完|不够了|有剩)|还有积分|有没有积分',
    ),
  ],
  [
    'status',
    whole(
      `(?:${ZH_LOOK})?(?:当前|目前|现在|项目|视频|渲染|导出|任务|编辑|的){0,3}(?:状态|进度|进展)(?:如何|怎么样|怎样|是什么|到哪|多少|情况)?了?|什么(?:状态|进度)|时间线|时间轴`,
      '(?:视频|项目|片子)?(?:现在|目前|当前)?(?:是)?(?:什么样子|什么样|怎么样|啥样|什么情况)(?:了)?',
      '(?:做|剪|处理|进行|渲染|导出)(?:到)(?:哪里|哪儿|哪|什么程度|哪一步)(?:了)?',
      '(?:视频|片子|影片|渲染|导出)?(?:做|剪|弄|处理|渲染|导出|生成)?(?:好了|完成了|完了)(?:没有|没|吗)',
      `${ZH_LOOK}(?:我的|所有的?|全部|当前的?|现在的|目前的|一下)?(?:时间线|时间轴|轨道|音轨和视频轨)(?:列表)?`,
      '(?:现在|目前|当前)?(?:时间线|时间轴|轨道|视频|项目)?(?:里面|里|上|中)(?:现在|目前|都)?有(?:什么|哪些内容|哪些|啥)(?:内容)?|(?:现在)?有(?:哪些|几条|多少条|什么)轨道',
    ),
  ],
  [
    'upload',
    whole(
      '(?:从(?:手机|电脑|相册|本地))?上传(?:一下|下)?(?:一个|一段|一张|一首|一些|几个|几段|几张|我的|我自己的|自己的|新的|新|更多|本地|其他|个|张|段){0,2}(?:视频|文件|图片|照片|音频|音乐|素材|歌曲|影片|录音|片段|媒体)?',
      '(?:怎么|如何|怎样|在哪里|在哪儿|在哪|哪里|哪里可以|怎么才能)上传(?:视频|文件|图片|照片|音频|音乐|素材|我的视频|我的素材)?',
    ),
  ],
]

// Traditional and simplified, in pairs: the characters that the sentences above are written with.
const PAIRS =
  '載载導导積积餘余狀状態态傳传視视頻频還还幾几現现嗎吗麼么樣样軌轨間间線线軸轴進进個个給给幫帮請请顯显圖图錄录樂乐帳账戶户號号輸输煩烦謝谢沒没裡里裏里問问張张'
const SIMPLE = new Map(Array.from({ length: PAIRS.length / 2 }, (_, i) => [PAIRS[i * 2]!, PAIRS[i * 2 + 1]!]))
const TAIWANESE: readonly (readonly [string, string])[] = [
  ['匯出', '导出'],
  ['儲存', '保存'],
  ['檔案', '文件'],
]

function simplified(text: string): string {
  const common = TAIWANESE.reduce((result, [from, to]) => result.replaceAll(from, to), text)
  return Array.from(common, character => SIMPLE.get(character) ?? character).join('')
}
