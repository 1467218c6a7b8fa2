import type { Test } from 'tap'
import type { JournalEntry, Sandbox } from '../../sandbox/server.ts'

/** What the backend saw, and what it must never see: a message or a render twice, two runs at once. */
export function checkJournal(t: Test, sandbox: Sandbox, expected: { messages: string[]; renders: number }) {
  const accepted = (endpoint: string) =>
    sandbox.journal().filter(entry => entry.endpoint === endpoint && entry.accepted)
  const texts = accepted('run').map(entry => entry.text)
  t.strictSame(texts, expected.messages, 'each message was sent once, in order')
  t.equal(accepted('render').length, expected.renders, 'each render was submitted once')
  t.ok(
    accepted('render').every(entry => entry.draftMatches),
    'renders got the draft byte for byte',
  )
  t.notOk(sandbox.journal().some(overlaps), 'no two messages were at work at once')
}

const overlaps = (entry: JournalEntry) => entry.overlap === true
