/** Starts the gateway, once Node knows how to load it quickly. */
import './quick-imports.ts'

await import('./gateway.ts')
