import type { IncomingMessage, ServerResponse } from 'node:http'
import { authenticate } from './accounts.ts'
import { endOf, forever, until } from './clock.ts'
import type { Backend, Call } from './context.ts'
import type { Fault } from './fault.ts'
import { detail, failure, json, parseObject, type Reply, readText, send } from './http.ts'
import type { JournalEntry } from './journal.ts'
import { replacementOf } from './replacements.ts'
import { findRoute, type Route } from './routes.ts'
import { textOf } from './run-body.ts'

const attribution = ['x-skill-source', 'x-skill-version', 'x-skill-platform']

/** Answers one request: route → fault → headers → token → handler → journal → wire. */
export async function dispatch(backend: Backend, req: IncomingMessage, res: ServerResponse) {
  const path = (req.url ?? '').split('?')[0] ?? ''
  const found = findRoute(req.method ?? '', path)
  const entry: JournalEntry = {
    at: Date.now(),
    endpoint: found?.route.endpoint ?? 'unknown',
    method: req.method ?? '',
    path,
    authorization: req.headers.authorization !== undefined,
    accepted: false,
    answer: '',
  }
  if (!found) {
    req.resume()
    return finish(backend, entry, detail(404, 'Not Found'), res)
  }
  const { route, params } = found
  try {
    const text = route.hasBody ? await readText(req) : null
    const call: Call = { req, params, text, body: parseObject(text), entry, fault: null }
    describe(call)
    call.fault = backend.faults.take(route.endpoint, entry.sessionId)
    if (call.fault) entry.fault = call.fault.answer
    await answer(backend, route, call, res)
  } catch (error) {
    // The client is gone: there is nobody to answer.
    if (!req.destroyed || req.complete) throw error
    entry.answer = 'aborted'
    backend.journal.add(entry)
  }
}

async function answer(backend: Backend, route: Route, call: Call, res: ServerResponse) {
  const { fault, entry, req } = call
  if (fault?.answer === 'reset' && fault.afterBytes !== undefined) {
    entry.bytes = await consume(req, fault.afterBytes)
  }
  const replacement = fault ? replacementOf(fault) : null
  const acts =
    fault === null || replacement === null || (fault as { act?: boolean }).act === true || actsUnasked(fault)
  const real = acts ? await handle(backend, route, call) : null
  if (!acts && !req.complete) req.resume()

  if (fault?.answer === 'hang' || fault?.answer === 'reset') {
    entry.answer = fault.answer
    backend.journal.add(entry)
    if (fault.answer === 'hang') return forever(endOf(res, backend.closing))
    return fault.how === 'fin' ? void req.socket.destroy() : void req.socket.resetAndDestroy()
  }
  const reply = replacement ?? real
  if (!reply) return
  if (fault?.answer === 'content_type') {
    reply.headers = { ...reply.headers, 'content-type': fault.contentType }
  }
  return finish(backend, entry, reply, res, fault?.answer === 'slow' ? fault.ms : 0)
}

async function handle(backend: Backend, route: Route, call: Call): Promise<Reply> {
  const { req, entry } = call
  const refuse = (reply: Reply) => {
    req.resume()
    return reply
  }
  if (route.unattributed !== 0 && attribution.some(name => !req.headers[name])) {
    const message = 'X-Skill-Source, X-Skill-Version and X-Skill-Platform are required'
    return refuse(failure(route.unattributed, message, route.unattributed))
  }
  if (route.hasBody && !/^application\/json\b/i.test(req.headers['content-type'] ?? '')) {
    return refuse(
      json(422, {
        detail: [{ type: 'model_attributes_type', loc: ['body'], msg: 'Input should be an object' }],
      }),
    )
  }
  if (route.open) return route.open(backend, call)
  const account = authenticate(backend, call)
  if ('status' in account) return refuse(account)
  entry.userId = account.userId
  return route.signed!(backend, { ...call, account })
}

async function finish(backend: Backend, entry: JournalEntry, reply: Reply, res: ServerResponse, delayMs = 0) {
  entry.answer = reply.answer ?? `http ${reply.status}`
  backend.journal.add(entry)
  if (delayMs > 0) await until(Date.now() + delayMs, endOf(res, backend.closing))
  if (res.destroyed) return
  if (!reply.pour) return send(res, reply)
  res.writeHead(reply.status, reply.headers)
  await reply.pour(res)
}

function actsUnasked(fault: Fault) {
  if (fault.answer === 'reset') return fault.act !== false && fault.afterBytes === undefined
  return fault.answer === 'hang' && fault.act !== false
}

/** What the journal can tell of a request before anybody judges it. */
function describe({ req, params, body, entry }: Call) {
  const clientId = req.headers['x-client-id']
  const platform = req.headers['x-skill-platform']
  const sessionId = params.session ?? body?.session_id ?? body?.sessionId
  const renderId = params.id ?? (entry.endpoint === 'render' ? body?.id : undefined)
  const text = textOf(body?.new_message ?? body?.newMessage)
  if (typeof platform === 'string') entry.platform = platform
  if (typeof clientId === 'string') entry.clientId = clientId
  if (typeof sessionId === 'string') entry.sessionId = sessionId
  if (typeof renderId === 'string') entry.renderId = renderId
  if (text !== null) entry.text = text
}

async function consume(req: IncomingMessage, bytes: number) {
  let seen = 0
  for await (const chunk of req.iterator({ destroyOnReturn: false })) {
    seen += chunk.length
    if (seen >= bytes) break
  }
  return seen
}
