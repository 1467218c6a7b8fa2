import { type Language, words } from '../words.ts'
import { type ActionKind, EN, type Rules, ZH } from './screen-rules.ts'

export type { ActionKind } from './screen-rules.ts'

export interface Action {
  kind: ActionKind
  label: string
  method: 'GET' | 'POST'
  href: string
  body?: Record<string, unknown>
}

/**
 * Takes instructions for a screen out of complete sentences and says which actions they meant
 * (upstream-contract §6). What a sentence says about the content stays as it is; so does quoted text.
 * Work is linear in the text; a sentence of more than 2,000 characters is left alone.
 */
export function withoutScreenWords(sentences: string[]): { text: string; actions: ActionKind[] } {
  const actions = new Set<ActionKind>()
  let text = ''
  let instructed = false
  for (const sentence of sentences) {
    const kept = strip(sentence, actions, instructed)
    instructed = kept === ''
    const gap = sentence.slice(sentence.trimEnd().length)
    // A paragraph ends where a sentence that is gone has ended it.
    if (kept !== '' || text === '' || text.endsWith('\n') || !gap.includes('\n')) text += kept
    else text = text.trimEnd() + gap
  }
  return { text: /\s$/.test(sentences.at(-1) ?? '') ? text : text.trimEnd(), actions: [...actions] }
}

/** The value of a `CUSTOM actions` event: what a client may call in place of what the backend spoke of. */
export function actionsFor(kinds: readonly ActionKind[], projectId: string, language: Language): Action[] {
  const project = `/v1/projects/${encodeURIComponent(projectId)}`
  const calls: Record<ActionKind, Omit<Action, 'kind' | 'label'>> = {
    export: { method: 'POST', href: `${project}/renders`, body: {} },
    timeline: { method: 'GET', href: `${project}/timeline` },
    credits: { method: 'GET', href: '/v1/credits' },
    upload: { method: 'POST', href: `${project}/uploads` },
    message: { method: 'POST', href: `${project}/messages` },
  }
  return [...new Set(kinds)].map(kind => ({ kind, label: words[language].actions[kind], ...calls[kind] }))
}

interface Clause {
  /** What stands before it: a comma, a conjunction. */
  joint: string
  text: string
  /** `text` at the same length, with what is quoted blanked, so that no rule reads inside a quotation. */
  bare: string
  gone: boolean
}

const MAX_SENTENCE = 2_000

/** `instructed`: the sentence before was an instruction, of which this may be the next step. */
function strip(sentence: string, actions: Set<ActionKind>, instructed: boolean): string {
  if (sentence.length > MAX_SENTENCE) return sentence
  const rules = /\p{Script=Han}/u.test(sentence) ? ZH : EN
  if (!instructed && !rules.screen.test(sentence)) return sentence
  const offer = (text: string) =>
    actions.add(rules.meaning.find(([, words]) => words.test(text))?.[0] ?? 'message')
  const [, start = '', body = '', end = ''] = PARTS.exec(sentence) ?? []
  const aside = body.replace(/\s*[(（]([^()（）]*)[)）]/g, (whole, inner) => {
    if (!instructs(blank(inner), rules)) return whole
    offer(inner)
    return ''
  })
  const clauses = clausesOf(aside, rules)
  if (instructed && start.trim() !== '' && clauses.every(clause => isStep(clause, rules))) return ''
  let cut = aside !== body
  for (const clause of clauses) {
    const tail = rules.tail.exec(clause.bare)
    if (instructs(clause.bare, rules) || (tail && isStep(clause, rules))) clause.gone = true
    else if (tail) {
      offer(clause.text.slice(tail.index))
      clause.text = clause.text.slice(0, tail.index)
      cut = true
    }
  }
  if (!cut && clauses.every(clause => !clause.gone)) {
    if (rules.invitation.test(blank(body))) actions.add('export')
    return sentence
  }
  for (const clause of clauses) if (clause.gone) offer(clause.text)
  spread(clauses, rules)
  const rest = clauses.filter(clause => !clause.gone)
  if (rest.length === 0) return ''
  const text = rest.map((clause, i) => (i === 0 ? '' : clause.joint) + clause.text).join('')
  return start + (clauses[0]!.gone ? capitalised(text.replace(rules.conjunction, '')) : text).trim() + end
}

/** White space and a list mark; the sentence; its end mark and white space. */
const PARTS = /^(\s*(?:[-*•]\s+|\d{1,3}[.)]\s+)?)(.*?)([.!?…。！？;；:：]*\s*)$/su

function clausesOf(body: string, rules: Rules): Clause[] {
  const bare = blank(body)
  const clauses: Clause[] = []
  let joint = ''
  let from = 0
  const close = (to: number) =>
    clauses.push({ joint, text: body.slice(from, to), bare: bare.slice(from, to), gone: false })
  for (const match of bare.matchAll(rules.joint)) {
    close(match.index)
    from = match.index + match[0].length
    joint = body.slice(match.index, from)
  }
  close(body.length)
  return clauses
}

/** Lets an instruction take its neighbours with it: its further steps, and what is left without a main clause. */
function spread(clauses: Clause[], rules: Rules): void {
  for (const order of [clauses, clauses.toReversed()])
    for (const [i, clause] of order.entries())
      if (order[i - 1]?.gone && isStep(clause, rules)) clause.gone = true
  if (clauses.every(clause => clause.gone || rules.dependent.test(clause.bare.trim())))
    for (const clause of clauses) clause.gone = clause.gone || clauses.some(other => other.gone)
}

function instructs(bare: string, rules: Rules): boolean {
  const found = bare.trim().replace(rules.lead, '')
  return rules.instruction.some(rule => rule.test(found))
}

function isStep(clause: Clause, rules: Rules): boolean {
  return rules.step.test(clause.bare.trim().replace(rules.lead, ''))
}

function blank(text: string): string {
  const fill = (quoted: string) => `"${'■'.repeat(quoted.length - 2)}"`
  return text
    .replace(/“[^“”]*”|「[^「」]*」|『[^『』]*』|"[^"]*"|‘[^‘’]*’/g, fill)
    .replace(/(?<![\p{L}\p{N}])'[^'\n]{1,80}'(?![\p{L}\p{N}])/gu, fill)
    .replace(/[*`]/g, ' ')
    .replace(/[[\]]/g, '"')
    .replaceAll('’', "'")
    .replace(/\b(drag|click) (and) (drop|drag)\b/gi, '$1-$2-$3')
}

function capitalised(text: string): string {
  return text.replace(/^\p{Ll}/u, letter => letter.toUpperCase())
}
