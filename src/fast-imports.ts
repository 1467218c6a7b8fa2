import { registerHooks } from 'node:module'

const ASKS_OFTEN = '/node_modules/drizzle-orm/'

/**
 * To learn what a module is, Node reads the package.json of its package, each time anew: for drizzle-orm a hundred
 * times 180 KB. Whoever imports this file before drizzle saves half a second and 130 MiB.
 */
registerHooks({
  resolve(specifier, context, nextResolve) {
    const { parentURL } = context
    if (!specifier.startsWith('.') || !parentURL?.includes(ASKS_OFTEN)) return nextResolve(specifier, context)
    return { url: new URL(specifier, parentURL).href, format: 'module', shortCircuit: true }
  },
})
