/**
 * The main job, played by a client over HTTP and WebSocket: upload, edit by chat, export, leave, come back.
 *
 *   node demo/demo.ts [URL] [--limit seconds] [--away seconds] [--save file.mp4] [--resume memory.json]
 *
 * With DEMO_MEMORY=file it writes down what a client keeps while it is away; --resume begins with coming back.
 */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { firstVisit } from './first-visit.ts'
import { secondVisit } from './second-visit.ts'
import { createStory, expect, type Memory, type Story } from './story.ts'
import { createTerminal, kilobytes, seconds } from './terminal.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    limit: { type: 'string', default: '180' },
    away: { type: 'string', default: '3' },
    save: { type: 'string' },
    resume: { type: 'string' },
  },
})
const url = positionals[0] ?? `http://127.0.0.1:${process.env.PORT ?? 8080}`
const startedAt = Date.now()
const deadline = new AbortController()
const timer = setTimeout(() => deadline.abort(), Number(values.limit) * 1_000)
const story = createStory({ url, signal: deadline.signal, terminal: createTerminal(process.stdout) })

try {
  await play(story)
} catch (error) {
  const why = deadline.signal.aborted
    ? `the time limit of ${values.limit} s has passed`
    : (error as Error).message
  story.terminal.failed(`failed at "${story.step()}": ${why}`)
  process.exitCode = 1
} finally {
  clearTimeout(timer)
}

async function play({ terminal, begin, tally, signal, connect }: Story): Promise<void> {
  terminal.title(`reelgate demo, as a client of ${url}`)
  begin('Find the gateway (`npm start` runs one)')
  await connect().get('/readyz')
  terminal.done('it is ready')

  let memory: Memory
  let from: string
  if (values.resume) {
    memory = JSON.parse(await readFile(values.resume, 'utf8')) as Memory
    from = memory.position.cursor
  } else {
    ;({ memory, from } = await firstVisit(story))
    begin('Leave: connection closed, everything but the stored lines forgotten')
    await remember(memory)
    terminal.note(`${values.away} s away; nobody watches`)
    await sleep(Number(values.away) * 1_000, undefined, { signal })
  }
  await secondVisit(story, memory, values.save)

  begin('Compare everything seen with the log')
  const lost = await countLost(memory, from)
  expect(lost === 0, `${lost} events are in the log and were not seen in their place`)
  terminal.done('the same events in the same order')

  const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`
  const parts = [
    ...(values.resume ? [] : [`${count(tally.edits, 'edit')} (${tally.silent} silent)`]),
    count(tally.renders, 'render'),
    count(tally.entries.length, 'event'),
    `${lost} lost`,
    `${kilobytes(tally.bytes)} downloaded`,
    ...(tally.reconnects > 0 ? [count(tally.reconnects, 'reconnect')] : []),
  ]
  terminal.step(`done in ${seconds(Date.now() - startedAt)}: ${parts.join(', ')}`)
}

/** Written whole or not at all: whoever waits for the file may read it at once. It holds a token. */
async function remember(memory: Memory): Promise<void> {
  const path = process.env.DEMO_MEMORY
  if (!path) return
  await writeFile(`${path}.new`, `${JSON.stringify(memory, null, 2)}\n`, { mode: 0o600 })
  await rename(`${path}.new`, path)
}

/** Reads the log again over GET and compares it with what came live and what was caught up on. */
async function countLost({ token, projectId }: Memory, from: string): Promise<number> {
  let index = 0
  let lost = 0
  for await (const { id, seq } of story.connect(token).events(projectId, from)) {
    const seen = story.tally.entries[index]
    if (!seen) break
    if (seen.id === id && seen.seq === seq) index++
    else lost++
  }
  return lost + (story.tally.entries.length - index)
}
