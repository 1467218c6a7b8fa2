import { type Change, lengthOf, type Track } from './draft.ts'
import { intentOf, musicStyle, quoted, subject, trimmedLength } from './wishes.ts'

export interface Story {
  kind: 'text' | 'edit' | 'generation'
  /** what the agent's tool is called, for an edit or a generation */
  tool: string
  /** what happens to the draft; of a generation: first the raw video */
  changes: Change[]
  /** of a generation: what the second stage adds */
  additions: Change[]
  /** said at the end; of a generation `saysFirst` comes with the raw video */
  says: string
  saysFirst?: string
  thought?: string
  /** three edits in ten end without a word (§0.3) */
  silent: boolean
}

export interface Told {
  text: string
  /** the session's */
  language: string
  tracks: Track[]
  /** edits and messages of this session so far */
  edits: number
  runs: number
}

type Lines = { en: string; zh: string }

/** What a message does to a draft and what the agent says about it. Same input, same story. */
export function tell(told: Told): Story {
  const { text, tracks, edits, runs } = told
  const chinese = /\p{Script=Han}/u.test(text) || /^zh/i.test(told.language)
  const say = (lines: Lines) => (chinese ? lines.zh : lines.en)
  const thought = runs % 3 === 0 ? { thought: 'The user wants a change. I look at the timeline first. ' } : {}
  const answer = (lines: Lines): Story => {
    return { kind: 'text', tool: '', changes: [], additions: [], says: say(lines), silent: false, ...thought }
  }
  const edit = (change: Change, lines: Lines): Story => {
    const tail = edits % 2 === 0 ? screenTail : plainTail
    const says = `${say(lines)}${chinese ? '' : ' '}${say(tail)}`
    // The 2nd, 5th and 8th of each ten.
    const silent = [1, 4, 7].includes(edits % 10)
    return {
      kind: 'edit',
      tool: 'edit_multitrack',
      changes: [change],
      additions: [],
      says,
      silent,
      ...thought,
    }
  }

  const wish = intentOf(text)
  if (wish === 'generation') return { ...generation(text, say), ...thought }
  if (/\b(remove|delete)\b|删除|去掉/i.test(text) && wish !== 'chat' && wish !== 'trim') {
    if (!tracks.some(track => track.role === wish)) return answer(nothingToRemove)
    return edit({ kind: 'remove', role: wish }, { en: `The ${wish} is gone.`, zh: '已删除。' })
  }
  if (wish === 'title') {
    const title = quoted(text) ?? (chinese ? '我的视频' : 'My Video')
    return edit(
      { kind: 'title', title },
      { en: `I added the title “${title}”.`, zh: `已添加标题“${title}”。` },
    )
  }
  if (wish === 'music') {
    const title = musicStyle(text)
    const volume = Number(/(\d{1,3}) ?%/.exec(text)?.[1] ?? 35) / 100
    return edit(
      { kind: 'music', title, volume: Math.min(1, volume) },
      { en: `${title} now plays in the background.`, zh: `已加入${title}背景音乐。` },
    )
  }
  if (wish === 'text') {
    const words = quoted(text) ?? (chinese ? '文字' : 'Text')
    return edit(
      { kind: 'text', text: words },
      { en: `I put “${words}” on the picture.`, zh: `已加上文字“${words}”。` },
    )
  }
  if (wish === 'chat') return answer(chat)

  if (lengthOf(tracks) === 0) return answer(nothingThere)
  if (wish === 'subtitles') {
    const lines = chinese
      ? ['欢迎观看', '这是我们的故事', '谢谢']
      : ['Welcome', 'This is our story', 'Thank you']
    return edit({ kind: 'subtitles', lines }, { en: 'I added three subtitles.', zh: '已添加三条字幕。' })
  }
  const toMs = trimmedLength(text, lengthOf(tracks))
  if (toMs >= lengthOf(tracks)) return answer(shortEnough)
  const seconds = toMs / 1000
  return edit(
    { kind: 'trim', toMs },
    { en: `I trimmed the video to ${seconds} seconds.`, zh: `已将视频剪到${seconds}秒。` },
  )
}

const screenTail: Lines = {
  en: 'Preview in the Timeline panel or click Export to save it.',
  zh: '请在时间线面板中预览，或点击导出按钮保存。',
}
const plainTail: Lines = { en: 'Tell me what to change next.', zh: '接下来要改什么，请告诉我。' }
const chat: Lines = {
  en: 'I can trim clips, add titles, music and subtitles, or generate a new video. What would you like to change?',
  zh: '我可以剪辑片段、添加标题、音乐和字幕，或生成新视频。您想改什么？',
}
const nothingThere: Lines = {
  en: 'There is nothing on the timeline yet. Upload a clip, or ask me to generate one.',
  zh: '时间线上还没有内容。请上传素材，或让我生成一段视频。',
}
const nothingToRemove: Lines = { en: 'There is no such thing in the video.', zh: '视频里没有这个。' }
const shortEnough: Lines = { en: 'The video is not longer than that already.', zh: '视频已经不比这更长了。' }

function generation(text: string, say: (lines: Lines) => string): Story {
  const city = /city|urban|城市/i.test(text)
  const clip = city ? 'city timelapse' : subject(text)
  const title = city ? 'Urban Dreams' : clip.replace(/^\p{Ll}/u, first => first.toUpperCase())
  return {
    kind: 'generation',
    tool: 'generate_video',
    changes: [{ kind: 'clip', title: clip, durationMs: 10_000, width: 1920, height: 1080 }],
    additions: [
      { kind: 'music', title: 'Lo-fi', volume: 0.35 },
      { kind: 'title', title },
    ],
    saysFirst: say({
      en: 'The raw video is there. I am adding music and a title now. ',
      zh: '原始视频已生成，正在添加音乐和标题。',
    }),
    says: say({
      en: 'Your video is ready! Preview in Timeline panel or click Export to save it.',
      zh: '您的视频已完成！请在时间线面板中预览，或点击导出按钮保存。',
    }),
    silent: false,
  }
}
