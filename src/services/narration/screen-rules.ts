export type ActionKind = 'export' | 'timeline' | 'credits' | 'upload' | 'message'

/**
 * How a language speaks of a screen (upstream-contract §6). All are matched against a clause in which
 * quoted text is blanked; `lead` is taken off before `instruction` and `step` are tried.
 */
export interface Rules {
  /** A sentence without any of these words is none that the other rules would change. */
  screen: RegExp
  joint: RegExp
  conjunction: RegExp
  /** Words before an instruction that do not change what it is. */
  lead: RegExp
  instruction: readonly RegExp[]
  /** Where a content clause turns to the screen; what follows goes. */
  tail: RegExp
  /** A further step of the instruction next to it. */
  step: RegExp
  /** Says nothing without the clause it belongs to. */
  dependent: RegExp
  /** Stays, and is offered. */
  invitation: RegExp
  meaning: readonly (readonly [ActionKind, RegExp])[]
}

/** A pattern in which a space stands for white space and line breaks for nothing. */
function pattern(source: string): RegExp {
  return new RegExp(source.replace(/\n\s*/g, '').replaceAll(' ', '\\s+'), 'i')
}

const SAVE = '(?:export|download|save|share|publish|render|upload|import|generate)'
const LABEL = `(?:${SAVE}|regenerate|play|preview|apply|confirm|ok|next|continue|create|undo|redo|upgrade|top up|add media|retry|settings|timeline|register|sign up|log in)`
const PLACE =
  '(?:panel|tab|sidebar|toolbar|drop-?down|workspace|editor|inspector|(?:media|asset|stock) library|preview window|(?:video|media) player)'
const WIDGET = `(?:button|icon|slider|${PLACE})s?`
const CONTENT =
  '(?! (?:animation|graphic|overlay|sticker|scene|shot|clip|footage|sound|effect|transition|text|title)s?\\b)'
const ANY = '(?:[\\w"■\'-]+ )'
const ARTICLE = '(?:(?:the|your|our|a|an|any|this|that) )?'
const IN_PANEL = `(?:in|on|from|inside|within) ${ARTICLE}(?:${ANY}{0,2}${PLACE}|timeline|preview)\\b`

export const EN: Rules = {
  screen:
    /click|tap|press|hit|push|button|icon|slider|panel|tab|bar|drop|workspace|editor|inspector|library|window|player|menu|settings|dashboard|link|timeline|account|billing|subscription|balance|credit|plan|drag|arrang|reorder|preview|scroll|swipe|hover|opening|going to|export|download/i,
  joint:
    /(?:\s*[,;:]\s+|\s*[–—]\s*|\s+-\s+)(?:(?:and|or|but|so|then)\s+){0,2}|\s+(?:(?:and|or|but|so|then)\s+){1,2}/gi,
  conjunction: /^(?:(?:and|or|but|so|then)\s+)+/i,
  lead: pattern(`^(?:(?:please|just|simply|now|then|next|finally|first|also|and|or|either|you can|you could|you may|
    you might|you should|you'll|you will|you need to|you have to|you'll need to|you must|you want to|would you like to|be able to|
    always|easily|go ahead and|feel free to|make sure to|be sure to|don't forget to|remember to|to|
    all you need to do is|alternatively|we recommend you|i recommend you|try) ){1,6}`),
  instruction: [
    pattern(`^(?:(?:double|right|left)[- ])?(?:click|tap)(?:-and-drag)?(?: (?:on|into))?
      (?:$| (?:"|the |here\\b|this |that |it\\b|your |any |each |an? |${LABEL}\\b|${ANY}{0,2}${WIDGET}\\b${CONTENT}))`),
    pattern(
      `^(?:press|hit|push) (?:the )?(?:"|${LABEL}\\b|space|enter\\b|ctrl|cmd|esc|${ANY}{0,2}${WIDGET}\\b${CONTENT})`,
    ),
    pattern(
      `^(?:select|choose|pick|use|find|look for|locate|check(?: out)?|see|view|look at) ${ARTICLE}${ANY}{0,4}${WIDGET}\\b${CONTENT}`,
    ),
    pattern(`^(?:go to|head (?:over )?to|navigate to|visit|switch to|open(?: up)?|expand|close|access|toggle)
      \\s+${ARTICLE}${ANY}{0,4}(?:${WIDGET}|menu|settings|dashboard|link)\\b${CONTENT}`),
    pattern(
      `^(?:go to|head (?:over )?to|switch to|open(?: up)?|use) (?:the |your )?${ANY}{0,1}timeline\\b${CONTENT}`,
    ),
    pattern(`^(?:(?:check|see|view) your|(?:check|visit|manage|go to|open)(?: the| your)?)
      \\s+(?:account|billing|dashboard|subscription|(?:credit )?balance|(?:remaining )?credits?|plan)\\b
      (?! (?:of|between|in) )${CONTENT}`),
    pattern(`^(?:drag(?:ging|-and-drop)?|arrange|rearrange|reorder)
      (?:$| (?:"|the |your |its |their |it\\b|them\\b|each |any |an? |this |that |these |those |all |clips?|files?|media|tracks?|layers?|items?|photos?|videos?|images?))`),
    pattern(
      '^drop (?:it|them|your|a|any|the)? ?(?:here|it|them|files?|media|videos?|clips?|images?|photos?)\\b(?!.*\\bvolume)',
    ),
    pattern(`^(?:select|choose|pick|preview|view|watch|see|review|check|find|play|look at|inspect|adjust|edit|fine-tune|change|move|trim)
      (?: ${ANY}{0,8}| )${IN_PANEL}${CONTENT}`),
    pattern(
      '^(?:(?:scroll|swipe) (?:up|down|left|right|to|through)|hover (?:over|on|your))\\b(?!.*\\b(?:transition|animation|effect)\\b)',
    ),
    // What appears in a place of the screen, and a button and where it is.
    pattern(
      `^(?:an? |the |your )?${ANY}{0,2}(?:link|file|video|preview|result)s? (?:will|should) (?:appear|show up|be (?:shown|available|listed)) in the ${ANY}{0,2}${PLACE}`,
    ),
    pattern(`^(?!.*\\b(?:added|frame|overlay)\\b)the (?:${SAVE}|"■+") (?:button|icon) (?:is|are|will|can|sits|appears|at|in|on)\\b
      .*\\b(?:top|bottom|upper|lower|right|left|corner|toolbar|panel|screen|menu|sidebar|below|above)\\b`),
  ],
  tail: pattern(` (?:by (?:clicking|tapping|pressing|dragging|dropping|opening the|going to the)\\b.*|
    (?:using|via|through|with|from) the (?:${SAVE} (?:button|icon)|${ANY}{0,2}(?:panel|menu|toolbar|sidebar))\\b.*|
    (?:for you )?to (?:preview|view|watch|review|see|check) (?:it )?${IN_PANEL}.*|
    (?:for you )?(?<=(?:available|visible|ready|shown|displayed|listed) )in the ${ANY}{0,2}${PLACE}\\b.*)$`),
  step: pattern(`^(?!.*\\b(?:is|are|was|were|has|have|will|me)\\b)(?:to |in order to )?(?:select|choose|pick|save|download|
    export|share|adjust|set|change|move|place|drop|drag|use|press|wait|confirm|enter|type|find|look|start|render|
    preview|play|watch|view|see|enjoy|trim|resize|release|hold|open|upload|import|fine-tune|edit|arrange|reorder|
    rearrange|it can be)\\b|^https?:\\S*$`),
  dependent: pattern(`^(?:(?:if|once|when|whenever|after|before|to|in order to|as soon as|until|now that|
    for (?:best|more|that|this))\\b.*|tip|pro tip|note|next(?: steps?)?|finally|then|now|alternatively|otherwise|
    (?:that|this) way|here's how|)$`),
  invitation: pattern(
    "^(?:(?:you can|you're|you are|it's|feel free to|ready)\\b.{0,20})\\b(?:export|download)\\b",
  ),
  meaning: [
    [
      'upload',
      /\b(?:upload|import|add media|media (?:panel|tab|library))|\bdrop\b.*\b(?:files?|media|here)\b/i,
    ],
    [
      'message',
      /\b(?:drag|drop|(?:re)?arrange|reorder|trim|adjust|resize|split|change\b|settings|edit\b|generate|regenerate|apply|undo|redo|fine-tune)/i,
    ],
    [
      'credits',
      /\b(?:credits?|account|billing|dashboard|balance|subscription|plan|upgrade|top up|register|sign up|log in)\b/i,
    ],
    ['export', /\b(?:export|download|save|share|publish|render)/i],
    [
      'timeline',
      /\b(?:timeline|preview|view|watch|play|see|open|tracks?|panel|player|editor|check|review|go to|switch)\b/i,
    ],
  ],
}

const ZH_PLACE =
  '(?:面板|窗口|标签页|选项卡|菜单|页面|侧边栏|侧栏|工具栏|编辑器|按钮|图标|仪表盘|控制台|后台|设置|工作区)'
const ZH_LINE = '(?:时间线|时间轴)'
const ZH_NEAR = '[^，,。；]{0,16}?'
const ZH_LOOK = '(?:预览|查看|观看|播放|看到)'

export const ZH: Rules = {
  screen: new RegExp(`${ZH_PLACE}|${ZH_LINE}|点|击|按|拖|账户|账号|账单|帐户|套餐|导出|下载`),
  joint:
    /\s*(?:[，,；;、：]|:(?!\/))\s*(?:然后|或者|并且|或|并|再|但)?|(?:然后|或者|并且|或(?!许))|并(?=可|点|在|拖|打|通过)/g,
  conjunction: /^(?:然后|或者|并且|或|并|再|也|但)+/,
  lead: /^(?:(?:请|您|你|可以|可|也|或者|或|然后|再|并|现在|只需|只要|直接|随时|就|需要|先|最后|能|还|记得|欢迎|来|去|如需|想要|要)\s*){1,8}/,
  instruction: [
    /^(?:点击|单击|双击|点按|轻点|点选|点一下|按下|右键点击|右击|长按)(?!率|量|数|音|声|效|动画|特效|次|转场)/,
    new RegExp(
      `^(?:打开|前往|进入|切换到|转到|访问|展开|选择|找到)${ZH_NEAR}(?:${ZH_PLACE}|${ZH_LINE}|账户|账号)(?!的?(?:镜头|画面|动画|特效|场景|片段))`,
    ),
    new RegExp(
      `^(?:在|从|到|通过|使用|用)${ZH_NEAR}(?:${ZH_PLACE}|${ZH_LINE})${ZH_NEAR}(?:${ZH_LOOK}|导出|下载|调整|拖|保存|编辑|点击|找到|上传)(?!了|过|好)`,
    ),
    /(?:通过|只需|即可)(?:点击|单击|拖拽|拖动|拖放)/,
    /^(?:拖拽|拖动|拖放|拖|[将把][^，,。]{1,20}拖)(?!了|影|尾)/,
    new RegExp(`^${ZH_LOOK}${ZH_NEAR}(?:${ZH_PLACE}|${ZH_LINE})`),
    /^(?:查看|检查|管理|登录|前往)[^，,。]{0,8}(?:账户|账号|账单|帐户|仪表盘|控制台|套餐)/,
    /^(?!.*(?:添加|加入|加了|制作|画面|动画|显示))[^，,。]*(?:导出|下载|保存)"?按钮/,
  ],
  tail: new RegExp(
    `(?:可以|可)?在${ZH_NEAR}(?:${ZH_LINE}|面板|预览窗口)(?:面板|中|里|上|内)*${ZH_LOOK}(?!了).*$`,
  ),
  step: /^(?:(?:即可|就能|就可以|便可|来|以便|以)|(?:修改|更改|保存|下载|导出|选择|分享|调整|设置|确认|等待|播放|预览|查看|观看|移动|输入|开始)(?!了|已|完成|好|质量|格式|时长|成功|为)|https?:\S*$)/i,
  dependent:
    /^(?:(?:如果|如需|若|当|想要|要|等|待|为了|一旦).*|接下来|提示|小提示|下一步|注意|.*(?:完成|满意|确认|准备好|编辑|修改|生成)(?:之|以)?后|.*的话|.*时|)$/,
  invitation: /(?:可以|可|随时)(?:随时|现在|直接)?(?:导出|下载)/,
  meaning: [
    ['upload', /上传|导入|素材(?:库|面板)|拖[^，,。]*文件/],
    ['message', /拖|排列|裁剪|调整|生成|应用|撤销/],
    ['credits', /积分|余额|账户|账号|帐户|账单|仪表盘|控制台|套餐|充值|注册|升级/],
    ['export', /导出|下载|保存|分享|渲染|export|download|save/i],
    ['timeline', /时间线|时间轴|预览|查看|观看|播放|面板|轨道|打开|编辑器|timeline|preview/i],
  ],
}
