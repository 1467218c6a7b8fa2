/**
 * For each of drizzle's hundred modules, Node parses the 180 kB of its package.json anew, to find out that it is an ES
 * module: half of what a start takes, and 150 MB of memory. Here it is told. Has to be loaded before drizzle is.
 */
import { type ResolveFnOutput, registerHooks } from 'node:module'

const entries = new Map<string, ResolveFnOutput>()

registerHooks({
  resolve(specifier, context, next) {
    const parent = context.parentURL ?? ''
    if (specifier.startsWith('.') && parent.includes('/node_modules/drizzle-orm/') && parent.endsWith('.js'))
      return { url: new URL(specifier, parent).href, format: 'module', shortCircuit: true }
    if (!specifier.startsWith('drizzle-orm') || !parent.endsWith('.ts')) return next(specifier, context)
    const entry = entries.get(specifier) ?? next(specifier, context)
    entries.set(specifier, entry)
    return { ...entry, shortCircuit: true }
  },
})
