/** Starts the gateway, once Node knows how to load it quickly. */
import './fast-imports.ts'

await import('./gateway.ts')
