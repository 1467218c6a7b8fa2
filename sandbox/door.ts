import type { IncomingMessage, ServerResponse } from 'node:http'
import { issueToken, reissueToken } from './accounts.ts'
import type { Backend } from './context.ts'
import type { Fault } from './fault.ts'
import { json, parseObject, readText, send } from './http.ts'

/** The calls that the real backend does not have: faults, journal, tokens. They are not in the journal. */
export async function door(backend: Backend, req: IncomingMessage, res: ServerResponse) {
  const { faults, journal } = backend
  const body = parseObject(await readText(req))
  // A web page can post anything but JSON to a loopback address without asking.
  if (req.method === 'POST' && !/^application\/json\b/.test(req.headers['content-type'] ?? '')) {
    return send(res, json(415, { detail: 'Content-Type: application/json is required' }))
  }
  switch (`${req.method} ${req.url}`) {
    case 'GET /__sandbox/journal':
      return send(res, json(200, { items: journal.entries() }))
    case 'GET /__sandbox/faults':
      return send(res, json(200, { items: faults.list() }))
    case 'DELETE /__sandbox/faults':
      faults.clear()
      return send(res, { status: 204 })
    case 'POST /__sandbox/tokens':
      try {
        const { credits, userId } = body ?? {}
        const issued =
          typeof userId === 'string'
            ? reissueToken(backend, userId)
            : issueToken(backend, typeof credits === 'number' ? credits : undefined)
        return send(res, json(201, issued))
      } catch (error) {
        return send(res, json(400, { detail: (error as Error).message }))
      }
    case 'POST /__sandbox/faults':
      try {
        if (!body) throw new TypeError('the body is no JSON object')
        if (typeof body.revokeToken === 'string') faults.revokeToken(body.revokeToken)
        else if (typeof body.dropSession === 'string') faults.dropSession(body.dropSession)
        else faults.add(body as unknown as Fault)
        return send(res, json(201, { items: faults.list() }))
      } catch (error) {
        return send(res, json(400, { detail: (error as Error).message }))
      }
    default:
      return send(res, json(404, { detail: 'Not Found' }))
  }
}
