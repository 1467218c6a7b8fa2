import { setTimeout as sleep } from 'node:timers/promises'
import { applyPatch } from 'rfc6902'
import type { Sandbox } from '../../sandbox/server.ts'
import { aguiFaults } from '../helpers/agui.ts'
import { type Client, type Json, signIn } from '../helpers/client.ts'
import { randomFrom } from './random.ts'
import { conversation, type Turn } from './script.ts'

const ENDS = ['completed', 'failed', 'stopped']
const USERS = 12
const LONGEST_RUN_MS = 90_000
/** What the sandbox's agent calls its tools, and how it speaks of its screen. */
const TOOLS = /edit_multitrack|generate_video|functionCall|function_call|tool_call/
const SCREEN = /\bclick\b|\bpanel\b|\bdrag\b|\bbutton\b|点击|面板|按钮|拖拽/i
const SECRETS = /nmv_usr_/

export interface Tally {
  runs: number
  ends: Record<string, number>
  faults: string[]
}

/**
 * Plays random conversations against a sandbox in a bad mood, and judges what the clients and the backend saw.
 * The same seed says the same; which call meets which fault depends on the moment.
 */
export async function converse(options: {
  url: string
  sandbox: Sandbox
  conversations: number
  parallel: number
  seed: number
  onDone?(done: number): void
}): Promise<Tally> {
  const { url, sandbox, conversations, parallel, seed } = options
  const tally: Tally = { runs: 0, ends: {}, faults: [] }
  const clients = await Promise.all(Array.from({ length: USERS }, () => signIn(url)))
  let next = 0
  let done = 0

  async function worker() {
    for (let n = next++; n < conversations; n = next++) {
      const turns = conversation(randomFrom(seed + n), n)
      const faults = await play(clients[n % USERS]!, sandbox, turns, tally).catch(error => [String(error)])
      tally.faults.push(...faults.map(fault => `conversation ${n} of seed ${seed}: ${fault}`))
      options.onDone?.(++done)
    }
  }
  await Promise.all(Array.from({ length: parallel }, worker))
  tally.faults.push(...journalFaults(sandbox))
  return tally
}

async function play(client: Client, sandbox: Sandbox, turns: Turn[], tally: Tally): Promise<string[]> {
  const language = /\p{Script=Han}/u.test(turns[0]!.text) ? 'zh-CN' : 'en'
  const { id } = await client.post('/v1/projects', { language })
  const runs: Promise<Json>[] = []
  for (const { text, fault, stopAfter, hurried, loss } of turns) {
    if (!hurried) await Promise.all(runs)
    if (loss === 'tokens') sandbox.faults.revokeToken('all')
    if (loss === 'sessions') sandbox.faults.dropSession('all')
    if (fault) sandbox.faults.add(fault)
    const { run } = await client.post(`/v1/projects/${id}/messages`, { text, intent: 'chat' })
    runs.push(endOf(client, run.id))
    if (stopAfter !== null) {
      await sleep(stopAfter)
      await client.post(`/v1/runs/${run.id}/stop`)
    }
  }
  const faults: string[] = []
  for (const run of await Promise.all(runs)) {
    tally.runs++
    const end =
      run.state === 'failed' ? `failed: ${run.userState?.code}` : `${run.state}: ${run.outcome ?? ''}`
    tally.ends[end] = (tally.ends[end] ?? 0) + 1
    if (!ENDS.includes(run.state)) faults.push(`the run of "${run.text}" is ${run.state}`)
  }
  return [...faults, ...(await logFaults(await client.log(id)))]
}

/** The run once it has ended, or as it is when it has taken too long. */
async function endOf(client: Client, id: string): Promise<Json> {
  for (const end = Date.now() + LONGEST_RUN_MS; ; await sleep(60)) {
    const run = await client.get(`/v1/runs/${id}`)
    if (ENDS.includes(run.state) || Date.now() > end) return run
  }
}

async function logFaults(entries: Json[]): Promise<string[]> {
  const faults: string[] = []
  entries.forEach(({ seq }, i) => {
    if (seq !== i + 1) faults.push(`entry ${i + 1} has seq ${seq}`)
  })
  for (const { chunk } of entries) {
    const text = JSON.stringify(chunk)
    if (TOOLS.test(text)) faults.push(`a tool shows: ${text}`)
    if (SECRETS.test(text)) faults.push('a token shows')
    if (SCREEN.test(text)) faults.push(`words about a screen: ${text}`)
  }
  const byRun = Map.groupBy(
    entries.filter(entry => entry.runId),
    entry => entry.runId,
  )
  for (const [id, of] of byRun) {
    const chunks = of.map(entry => entry.chunk)
    const found = [...(await aguiFaults(chunks)), ...patchFaults(chunks)]
    faults.push(...found.map(fault => `run ${id}: ${fault}`))
  }
  return faults
}

function patchFaults(chunks: Json[]): string[] {
  const copy = structuredClone(chunks.find(({ type }) => type === 'STATE_SNAPSHOT')?.snapshot)
  return chunks
    .filter(({ type }) => type === 'STATE_DELTA')
    .filter(({ delta }) => applyPatch(copy, delta).some(error => error !== null))
    .map(({ delta }) => `a patch does not apply: ${JSON.stringify(delta)}`)
}

/** The backend's journal is the ground truth: no message was taken twice, and none met another one at work. */
function journalFaults(sandbox: Sandbox): string[] {
  const taken = sandbox.journal().filter(({ endpoint, accepted }) => endpoint === 'run' && accepted)
  const twice = [...Map.groupBy(taken, ({ text }) => text)].filter(([, entries]) => entries.length > 1)
  return [
    ...twice.map(([text, entries]) => `"${text}" was sent ${entries.length} times`),
    ...taken.filter(({ overlap }) => overlap).map(({ text }) => `"${text}" met another message at work`),
  ]
}
