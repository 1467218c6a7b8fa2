/** The two languages that end users are addressed in. */
export type Language = 'en' | 'zh'

/** Chinese for every Chinese tag (`zh`, `zh-CN`, `zh-Hant-TW`), English for all else. */
export function languageOf(tag: string): Language {
  return /^zh(?:[-_]|$)/i.test(tag.trim()) ? 'zh' : 'en'
}

/** Every sentence that an end user may read stands in this file and nowhere else. */
export interface Words {
  notes: { stillWorking: string; sessionReplaced: string; stopped: string }
  silent: { done: (changes: string) => string; unchanged: string }
  /** By problem code; says what to do next. */
  userStates: Record<UserStateCode, string>
  /** What the gateway says itself where no backend is asked. */
  answers: {
    export: string
    credits: (available: number) => string
    upload: (types: readonly string[], megabytes: number) => string
  }
  actions: Record<'export' | 'timeline' | 'credits' | 'upload' | 'message', string>
  summary: {
    heading: (tracks: number) => string
    track: Record<TrackKind, string>
    label: (name: string) => string
    unnamed: Record<TrackKind, (position: number) => string>
    span: (from: string, to: string) => string
    details: (parts: readonly string[]) => string
    separator: string
    more: (count: number) => string
    emptyTrack: string
    empty: string
    opaque: string
  }
  changes: {
    kind: Record<TrackKind, string>
    added: (kind: string, what: string) => string
    removed: (kind: string, what: string) => string
    addedMany: (kind: TrackKind, count: number) => string
    removedMany: (kind: TrackKind, count: number) => string
    replaced: (kind: string, from: string, to: string) => string
    trimmed: (kind: string, what: string, from: string, to: string) => string
    moved: (kind: string, what: string, from: string, to: string) => string
    volume: (kind: string, what: string, from: string, to: string) => string
    mediaAdded: (names: readonly string[], more: number) => string
    quoted: (text: string) => string
    more: (count: number) => string
    other: string
    separator: string
  }
}

type TrackKind = 'video' | 'audio' | 'text' | 'unknown'

export type UserStateCode =
  | 'credits_exhausted_anonymous'
  | 'credits_exhausted_registered'
  | 'upgrade_required'
  | 'reauth_required'
  | 'rate_limited'
  | 'rate_limited_anonymous'
  | 'unsupported_media'
  | 'file_too_large'
  | 'upstream_unavailable'
  | 'upstream_timeout'
  | 'outcome_unknown'
  | 'render_lost'
  | 'content_filtered'
  | 'upload_interrupted'
  | 'upload_gone'
  | 'request_timeout'
  | 'storage_full'
  | 'nothing_to_export'

const plural = (count: number, one: string, many: string) => `${count} ${count === 1 ? one : many}`

const en: Words = {
  notes: {
    stillWorking: 'Still working on it. Long edits can take a few minutes.',
    sessionReplaced:
      'The earlier editing session has ended, so the timeline starts anew. Your uploads may need to be added again.',
    stopped: 'Stopped. What was finished before stays in the project.',
  },
  silent: {
    done: changes => `Done: ${changes}`,
    unchanged: 'Nothing changed.',
  },
  userStates: {
    credits_exhausted_anonymous:
      'Your free credits are used up. Register to continue; your project stays as it is.',
    credits_exhausted_registered:
      'Your credits are used up. Top up to continue; your project stays as it is.',
    upgrade_required: 'Your plan does not include this. Upgrade your plan to continue.',
    reauth_required: 'Your NemoVideo account needs to be linked again. Link it to continue.',
    rate_limited: 'There are too many requests at the moment. Please try again a little later.',
    rate_limited_anonymous:
      'There is no free place for a new guest at the moment. Link your NemoVideo account to begin now, or come back later.',
    unsupported_media:
      'This file type is not supported. Please use mp4, mov, avi, webm, mkv, jpg, png, gif, webp, mp3, wav, m4a or aac.',
    file_too_large: 'This file is too large. Please compress or trim it and upload it again.',
    upstream_unavailable: 'The video service cannot be reached at the moment. Please try again shortly.',
    upstream_timeout: 'The video service did not answer in time. Please try again shortly.',
    outcome_unknown:
      'The connection was lost and it is not certain whether your request was carried out. Look at the timeline before you try again.',
    render_lost: 'This export did not finish. Please try the export again; exports are free.',
    content_filtered: 'This request was declined by the content filter. Please put it another way.',
    upload_interrupted: 'The upload was interrupted. Please upload the file again.',
    upload_gone: 'This upload can no longer be continued. Please upload the file again.',
    request_timeout:
      'The connection is too slow at the moment. Please try again when it is better; what has arrived is kept.',
    storage_full: 'There is no room for this file at the moment. Please try again a little later.',
    nothing_to_export: 'There is nothing to export yet. Add a clip or describe the video you want first.',
  },
  answers: {
    export: 'Your video is being exported.',
    credits: available => `You have ${plural(available, 'credit', 'credits')} left.`,
    upload: (types, megabytes) =>
      `Upload the file here. It can be ${types.join(', ')}, up to ${megabytes} MB.`,
  },
  actions: {
    export: 'Export video',
    timeline: 'Show timeline',
    credits: 'Show credits',
    upload: 'Upload a file',
    message: 'Describe the change',
  },
  summary: {
    heading: tracks => `Timeline (${plural(tracks, 'track', 'tracks')}): `,
    track: { video: 'Video', audio: 'BGM', text: 'Title', unknown: 'Other' },
    label: name => `${name}: `,
    unnamed: {
      video: n => `clip ${n}`,
      audio: n => `audio ${n}`,
      text: n => `text ${n}`,
      unknown: n => `item ${n}`,
    },
    span: (from, to) => `${from}-${to}s`,
    details: parts => ` (${parts.join(', ')})`,
    separator: ', ',
    more: count => `and ${count} more`,
    emptyTrack: 'empty',
    empty: 'The timeline is empty.',
    opaque: 'The timeline has content; its tracks cannot be listed.',
  },
  changes: {
    kind: { video: 'Clip', audio: 'Music', text: 'Title', unknown: 'Item' },
    added: (kind, what) => `${kind} added: ${what}`,
    removed: (kind, what) => `${kind} removed: ${what}`,
    addedMany: (kind, count) =>
      `${count} ${{ video: 'clips', audio: 'audio clips', text: 'titles', unknown: 'items' }[kind]} added`,
    removedMany: (kind, count) =>
      `${count} ${{ video: 'clips', audio: 'audio clips', text: 'titles', unknown: 'items' }[kind]} removed`,
    replaced: (kind, from, to) => `${kind} changed: ${from} → ${to}`,
    trimmed: (kind, what, from, to) => `${kind} length changed: ${what} (${from} → ${to})`,
    moved: (kind, what, from, to) => `${kind} moved: ${what} (${from} → ${to})`,
    volume: (kind, what, from, to) => `${kind} volume changed: ${what} (${from} → ${to})`,
    mediaAdded: (names, more) => `Media added: ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`,
    quoted: text => `“${text}”`,
    more: count => plural(count, 'more change', 'more changes'),
    other: 'The timeline was adjusted',
    separator: '; ',
  },
}

const zh: Words = {
  notes: {
    stillWorking: '仍在处理中，较长的编辑可能需要几分钟。',
    sessionReplaced: '之前的编辑会话已结束，时间线已重新开始。您可能需要重新添加素材。',
    stopped: '已停止。此前完成的内容会保留在项目中。',
  },
  silent: {
    done: changes => `已完成：${changes}`,
    unchanged: '没有任何变化。',
  },
  userStates: {
    credits_exhausted_anonymous: '免费积分已用完。注册后即可继续，项目会原样保留。',
    credits_exhausted_registered: '积分已用完。充值后即可继续，项目会原样保留。',
    upgrade_required: '您当前的套餐不包含此功能，升级套餐后即可继续。',
    reauth_required: '您的 NemoVideo 账户需要重新关联，关联后即可继续。',
    rate_limited: '当前请求过多，请稍后再试。',
    rate_limited_anonymous: '暂时没有新的访客名额。关联您的 NemoVideo 账户即可立即开始，也可以稍后再来。',
    unsupported_media:
      '不支持此文件类型。请使用 mp4、mov、avi、webm、mkv、jpg、png、gif、webp、mp3、wav、m4a 或 aac。',
    file_too_large: '文件过大，请压缩或裁剪后重新上传。',
    upstream_unavailable: '视频服务暂时无法连接，请稍后再试。',
    upstream_timeout: '视频服务未能及时响应，请稍后再试。',
    outcome_unknown: '连接中断，无法确定您的请求是否已执行。请先查看时间线，再决定是否重试。',
    render_lost: '本次导出未能完成。请重新导出，导出不消耗积分。',
    content_filtered: '该请求未通过内容审核，请换一种说法。',
    upload_interrupted: '上传中断，请重新上传该文件。',
    upload_gone: '此上传已无法继续，请重新上传该文件。',
    request_timeout: '当前网络太慢，请在网络好转后重试；已上传的部分会保留。',
    storage_full: '目前没有足够的空间存放此文件，请稍后再试。',
    nothing_to_export: '还没有可以导出的内容。请先添加素材，或描述您想要的视频。',
  },
  answers: {
    export: '正在导出您的视频。',
    credits: available => `您还剩 ${available} 积分。`,
    upload: (types, megabytes) => `请在此上传文件，支持 ${types.join('、')}，最大 ${megabytes} MB。`,
  },
  actions: {
    export: '导出视频',
    timeline: '查看时间线',
    credits: '查看积分',
    upload: '上传文件',
    message: '描述要做的修改',
  },
  summary: {
    heading: tracks => `时间线（${tracks} 条轨道）：`,
    track: { video: '视频', audio: '配乐', text: '标题', unknown: '其他' },
    label: name => `${name}：`,
    unnamed: {
      video: n => `片段 ${n}`,
      audio: n => `音频 ${n}`,
      text: n => `文字 ${n}`,
      unknown: n => `项目 ${n}`,
    },
    span: (from, to) => `${from}-${to}秒`,
    details: parts => `（${parts.join('，')}）`,
    separator: '、',
    more: count => `等另外 ${count} 个`,
    emptyTrack: '空',
    empty: '时间线是空的。',
    opaque: '时间线已有内容，但无法列出各轨道。',
  },
  changes: {
    kind: { video: '片段', audio: '音乐', text: '标题', unknown: '元素' },
    added: (kind, what) => `已添加${kind}：${what}`,
    removed: (kind, what) => `已移除${kind}：${what}`,
    addedMany: (kind, count) => `已添加 ${count} 个${zh.changes.kind[kind]}`,
    removedMany: (kind, count) => `已移除 ${count} 个${zh.changes.kind[kind]}`,
    replaced: (kind, from, to) => `${kind}已更改：${from} → ${to}`,
    trimmed: (kind, what, from, to) => `${kind}时长已更改：${what}（${from} → ${to}）`,
    moved: (kind, what, from, to) => `${kind}已移动：${what}（${from} → ${to}）`,
    volume: (kind, what, from, to) => `${kind}音量已更改：${what}（${from} → ${to}）`,
    mediaAdded: (names, more) => `已添加素材：${names.join('、')}${more > 0 ? `等另外 ${more} 个` : ''}`,
    quoted: text => `“${text}”`,
    more: count => `另有 ${count} 处更改`,
    other: '时间线已调整',
    separator: '；',
  },
}

export const words: Record<Language, Words> = { en, zh }

/**
 * What a user is told about a problem, or undefined for a code that is no user's concern. `registered`
 * tells an account from a guest.
 */
export function problemWords(language: Language, code: string, registered: boolean): string | undefined {
  const key = code === 'credits_exhausted' ? `${code}_${registered ? 'registered' : 'anonymous'}` : code
  const table: Record<string, string> = words[language].userStates
  return Object.hasOwn(table, key) ? table[key] : undefined
}
