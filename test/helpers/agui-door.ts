import type { Client, Json } from './client.ts'

/** An event of the door: its id and the AG-UI event. */
export interface DoorEvent {
  id: string | undefined
  chunk: Json
}

/** What a client sends: a RunAgentInput. */
export const runInput = (threadId: string, runId: string, text: string, more: object = {}) => ({
  threadId,
  runId,
  state: {},
  messages: [
    { id: 'm0', role: 'user', content: 'something said before' },
    { id: 'm1', role: 'assistant', content: 'and answered' },
    { id: 'm2', role: 'user', content: text },
  ],
  tools: [],
  context: [],
  forwardedProps: {},
  ...more,
})

/** The door as one client uses it. */
export function doorOf(client: Client) {
  const headers = { authorization: `Bearer ${client.token}` }
  const url = `${client.url}/v1/agui`
  return {
    url,
    headers,
    post: (body: object, more: Record<string, string> = {}, signal?: AbortSignal) =>
      fetch(url, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json', ...more },
        body: JSON.stringify(body),
        ...(signal ? { signal } : {}),
      }),
    get: (query: string, more: Record<string, string> = {}) =>
      fetch(`${url}?${query}`, { headers: { ...headers, ...more } }),
  }
}

/** The events of an answer as they come, however it ends; throws when it is a problem. */
export async function* eventsOf(response: Response): AsyncGenerator<DoorEvent> {
  if (!response.headers.get('content-type')?.startsWith('text/event-stream'))
    throw new Error(`${response.status}: ${await response.text()}`)
  let text = ''
  for await (const bytes of response.body!.pipeThrough(new TextDecoderStream())) {
    const blocks = (text + bytes).split('\n\n')
    text = blocks.pop()!
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1]
      if (data) yield { id: /^id: (.*)$/m.exec(block)?.[1], chunk: JSON.parse(data) }
    }
  }
}

export async function readAll(response: Response | Promise<Response>): Promise<DoorEvent[]> {
  const events: DoorEvent[] = []
  for await (const event of eventsOf(await response)) events.push(event)
  return events
}

export const typesOf = (events: DoorEvent[]) => events.map(({ chunk }) => chunk.type)

/** Reads until an event is what the test waits for, and goes away. */
export async function readUntil(response: Response, wanted: (chunk: Json) => boolean): Promise<DoorEvent[]> {
  const events: DoorEvent[] = []
  for await (const event of eventsOf(response)) {
    events.push(event)
    if (wanted(event.chunk)) break
  }
  return events
}
