/**
 * `npm test`: one Postgres for all test files, each file a process of its own, some at once; closes with
 * `N passed, N failed`.
 *
 *   npm test -- [file or folder …] [--jobs=5] [--timeout=<seconds>] [--reporter=tap] [--test-arg=<for each file>]
 *
 * tap's own runner hooks every module that a test or a gateway loads, to know what to watch and to cover. That was a
 * third of the suite's time, and a tap file is a program that Node runs as it is.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startCluster } from './helpers/cluster.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    jobs: { type: 'string', default: '5' },
    timeout: { type: 'string', default: '120' },
    reporter: { type: 'string', default: 'terse' },
    'test-arg': { type: 'string', multiple: true, default: [] },
  },
})
const files = (positionals.length ? positionals : ['test']).flatMap(path =>
  statSync(path).isDirectory() ? globSync(join(path, '**/*.test.ts')).sort() : path,
)
const totals = { pass: 0, fail: 0, skip: 0 }
const running = new Set<ReturnType<typeof spawn>>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const cluster = await startCluster()
const scratch = await mkdtemp(join(tmpdir(), 'reelgate-tap-'))
const env = {
  ...process.env,
  REELGATE_TEST_CLUSTER: cluster.url,
  // More than a hundred processes load the same modules.
  NODE_COMPILE_CACHE: join(scratch, 'compiled'),
  NODE_OPTIONS: `--import=${new URL('../src/fast-imports.ts', import.meta.url)} ${process.env.NODE_OPTIONS ?? ''}`,
  TAP_TIMEOUT: values.timeout,
}
const waiting = files.values()
await Promise.all(
  Array.from({ length: Number(values.jobs) }, async () => {
    for (const file of waiting) report(file, await runFile(file))
  }),
)
await cluster.stop()
await rm(scratch, { recursive: true, force: true })
const { pass, fail, skip } = totals
console.log(`${pass} passed, ${fail} failed${skip ? `, ${skip} skipped` : ''}`)
process.exitCode = fail === 0 && pass > 0 ? 0 : 1

async function runFile(file: string) {
  const child = spawn(process.execPath, [file, ...values['test-arg']], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  running.add(child)
  // To this signal tap says what was not finished; a process that does not even do that is killed.
  const late = setTimeout(() => child.kill('SIGALRM'), Number(values.timeout) * 1_000)
  const tooLate = setTimeout(() => child.kill('SIGKILL'), Number(values.timeout) * 1_000 + 5_000)
  let output = ''
  child.stdout.setEncoding('utf8').on('data', text => {
    output += text
  })
  const [code, signal] = await once(child, 'close')
  clearTimeout(late)
  clearTimeout(tooLate)
  running.delete(child)
  return { output, end: code ?? signal }
}

/** A tap file closes with `# { total: 12, pass: 11, fail: 1 }`. */
function report(file: string, { output, end }: { output: string; end: number | NodeJS.Signals }) {
  const line = output.match(/^# \{ total: .*\}$/m)?.[0] ?? ''
  const count = (name: string) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(line)?.[1] ?? 0)
  const unexplained = (end !== 0 || !line) && count('fail') === 0
  totals.pass += count('pass')
  totals.fail += unexplained ? 1 : count('fail')
  totals.skip += count('skip')
  if (values.reporter === 'tap') console.log(`# ${file}\n${output}`)
  else if (end !== 0 || count('fail')) console.log(`# ${file}\n${output.replaceAll(/^ *ok .*\n/gm, '')}`)
  if (unexplained) console.log(`not ok - ${file} ended with ${end}\n`)
}
