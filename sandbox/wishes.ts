type Intent = 'generation' | 'title' | 'music' | 'subtitles' | 'text' | 'trim' | 'chat'

/** Which of the things the agent can do a message asks for. */
export function intentOf(text: string): Intent {
  const ofPart =
    /generate\s+(\w+\s+){0,2}(subtitles?|captions?|titles?|music)|生成.{0,4}(字幕|标题|音乐|配乐)/i
  const ofVideo =
    /\b(re-?)?generate\b|\b(make|create|produce)\b.*\b(video|clip|film|movie|reel|timelapse)\b|生成|(做|制作|拍).*(视频|短片)/i
  if (ofVideo.test(text) && !ofPart.test(text)) return 'generation'
  if (/\btitles?\b|标题/i.test(text)) return 'title'
  if (/\b(subtitles?|captions?)\b|字幕/i.test(text)) return 'subtitles'
  if (/\b(music|bgm|soundtrack|song)\b|音乐|配乐/i.test(text)) return 'music'
  if (/\b(trim|shorten|cut)\b|剪|裁|缩短/i.test(text)) return 'trim'
  if (/\btext\b|文字/i.test(text)) return 'text'
  return 'chat'
}

/** What a video is to be made of. */
export function subject(text: string) {
  const rest = text
    .replace(/.*?\b(generate|make|create|produce)\b|.*?(生成|制作|做|拍)/i, '')
    .replace(
      /\b(me|a|an|the|of|about|\d+[- ]?s(econds?)?|short|video|clip|film|movie)\b|视频|短片|一段|一个|关于|的/gi,
      ' ',
    )
    .replace(/[.,!?。，！？]/g, ' ')
    .trim()
    .replace(/\s+/g, ' ')
  return rest.slice(0, 40) || 'new scene'
}

/** The words that a title or a text is to have. */
export function quoted(text: string) {
  const marks = /"([^"]+)"|“([^”]+)”|「([^」]+)」|《([^》]+)》|(?<=\s)'([^']+)'(?!\w)/.exec(text)
  const words =
    /\b(?:says?|saying|called|named|titled|title:)\s+(.+?)[.!]?$|(?:标题|文字)(?:为|是|写|：|叫)\s*(.+?)[。！]?$/i.exec(
      text,
    )
  const named = /[Tt]itle\s+((?:\p{Lu}[\p{L}\d’']*\s*)+)/u.exec(text)
  return (marks ?? words ?? named)
    ?.slice(1)
    .find(group => group !== undefined)
    ?.trim()
}

/** The music a message names, else Lo-fi. */
export function musicStyle(text: string) {
  const styles: [RegExp, string][] = [
    [/jazz|爵士/i, 'Jazz'],
    [/rock|摇滚/i, 'Rock'],
    [/piano|钢琴/i, 'Piano'],
    [/ambient|氛围/i, 'Ambient'],
    [/upbeat|happy|欢快/i, 'Upbeat'],
  ]
  return styles.find(([words]) => words.test(text))?.[1] ?? 'Lo-fi'
}

const numbers = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten']

/** The length to trim to, in ms: "to 3 s" is that, "the first 2 seconds" takes that much off, else half. */
export function trimmedLength(text: string, length: number) {
  const digits = text.replace(/\b[a-z]+\b/gi, word => {
    const value = numbers.indexOf(word.toLowerCase())
    return value < 0 ? word : String(value)
  })
  const ms = Number(/(\d+(?:\.\d+)?)\s*(?:s\b|sec|秒|[.!。]?$)/i.exec(digits)?.[1] ?? 0) * 1000
  if (ms === 0) return Math.max(1000, Math.round(length / 2))
  const off = /\b(first|last|off|from the (start|beginning|end))\b|开头|最后|结尾|前\s*\d/i.test(digits)
  return Math.max(500, off && !/\bto\b|到/.test(digits) ? length - ms : ms)
}
