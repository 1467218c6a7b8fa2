/** `npm test`: starts one Postgres for all test files, runs tap, and closes with `N passed, N failed`. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startCluster } from './helpers/cluster.ts'

const cluster = await startCluster()
const scratch = await mkdtemp(join(tmpdir(), 'reelgate-tap-'))
const output = join(scratch, 'output.tap')
const tap = spawn('tap', ['run', `--output-file=${output}`, ...process.argv.slice(2)], {
  stdio: 'inherit',
  env: {
    ...process.env,
    REELGATE_TEST_CLUSTER: cluster.url,
    // More than a hundred processes load the same modules.
    NODE_COMPILE_CACHE: join(scratch, 'compiled'),
    NODE_OPTIONS: `--import=${new URL('../src/fast-imports.ts', import.meta.url)} ${process.env.NODE_OPTIONS ?? ''}`,
  },
})
const [code] = await once(tap, 'exit')
await cluster.stop()
const { pass, fail, skip } = totals(await readFile(output, 'utf8').catch(() => ''))
await rm(scratch, { recursive: true, force: true })
console.log(`${pass} passed, ${fail} failed${skip ? `, ${skip} skipped` : ''}`)
process.exitCode = code === 0 && fail === 0 && pass > 0 ? 0 : 1

/** tap closes its output with `# { total: 12, pass: 11, fail: 1 }`. */
function totals(text: string) {
  const line = text.match(/^# \{ total: .*\}$/gm)?.at(-1) ?? ''
  const count = (name: string) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(line)?.[1] ?? 0)
  return { pass: count('pass'), fail: count('fail'), skip: count('skip') }
}
