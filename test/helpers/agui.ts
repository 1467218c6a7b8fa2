import { type BaseEvent, verifyEvents } from '@ag-ui/client'
import { EventSchemas } from '@ag-ui/core/schemas'
import { from, lastValueFrom, toArray } from 'rxjs'
import type { Json } from './client.ts'

/** What AG-UI has against the chunks of one run: its schema, and the verifier of its client. */
export async function aguiFaults(chunks: Json[]): Promise<string[]> {
  const faults = chunks
    .filter(chunk => !EventSchemas.safeParse(chunk).success)
    .map(chunk => `no AG-UI event: ${JSON.stringify(chunk)}`)
  const events = from(chunks as BaseEvent[]).pipe(verifyEvents(false), toArray())
  await lastValueFrom(events).catch(error => faults.push(`not legal in AG-UI: ${error.message}`))
  if (!/^RUN_(FINISHED|ERROR)$/.test(chunks.at(-1)?.type)) faults.push('the run has no end')
  return faults
}
