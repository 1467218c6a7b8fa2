import { AsyncLocalStorage } from 'node:async_hooks'
import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api'
import { describeError, VERSION } from './logger.ts'
import { scrub } from './scrub.ts'

type Set = (attributes: Attributes) => void

export interface Tracing {
  /** A span inside the one that is under way; without one, only the work: nobody asks what a poll belongs to. */
  span<T>(name: string, options: SpanOptions, work: (set: Set) => Promise<T>): Promise<T>
  /** Begins a span, in the trace of `traceparent` (W3C) if that is one. `enter` runs what belongs to it. */
  begin(
    name: string,
    options: SpanOptions & { traceparent?: string | undefined },
  ): { enter<T>(work: () => T): T; end(attributes: Attributes, failed: boolean): void }
  /** Names the span that is under way, for what goes on elsewhere. */
  traceparent(): string | undefined
  /** Sends what is left. */
  close(): Promise<void>
}

interface SpanOptions {
  kind?: 'server' | 'client' | 'producer' | 'consumer'
  attributes?: Attributes
}

const KINDS = {
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
}

/** Sends traces to an OTLP/HTTP collector at `endpoint`. The SDK is loaded here, so that it costs nothing unless wanted. */
export async function createTracing(endpoint: string): Promise<Tracing> {
  const [{ BatchSpanProcessor, TracerProvider }, { OTLPTraceExporter }, { resourceFromAttributes }] =
    await Promise.all([
      import('@opentelemetry/sdk-trace'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/resources'),
    ])
  const exporter = new OTLPTraceExporter({ url: `${endpoint}/v1/traces` })
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'reelgate', 'service.version': VERSION }),
    spanProcessors: [new BatchSpanProcessor({ exporter, scheduledDelayMillis: 1_000 })],
  })
  const tracer = provider.getTracer('reelgate', VERSION)
  // A context of our own instead of a global one: libraries that look for that would add spans of theirs.
  const current = new AsyncLocalStorage<Context>()

  function start(name: string, { kind, attributes = {} }: SpanOptions, parent: Context) {
    const options = { attributes: scrubbed(attributes), ...(kind ? { kind: KINDS[kind] } : {}) }
    const span = tracer.startSpan(name, options, parent)
    return { span, context: trace.setSpan(parent, span) }
  }

  return {
    async span(name, options, work) {
      const parent = current.getStore()
      if (!parent) return work(() => {})
      const { span, context } = start(name, options, parent)
      try {
        return await current.run(context, () => work(attributes => span.setAttributes(scrubbed(attributes))))
      } catch (error) {
        fail(span, error)
        throw error
      } finally {
        span.end()
      }
    },

    begin(name, { traceparent, ...options }) {
      const { span, context } = start(name, options, parseParent(traceparent))
      return {
        enter: work => current.run(context, work),
        end(attributes, failed) {
          span.setAttributes(scrubbed(attributes))
          if (failed) span.setStatus({ code: SpanStatusCode.ERROR })
          span.end()
        },
      }
    },

    traceparent() {
      const context = current.getStore()
      const span = context && trace.getSpanContext(context)
      return span && `00-${span.traceId}-${span.spanId}-0${span.traceFlags & TraceFlags.SAMPLED}`
    },

    close: () => provider.shutdown(),
  }
}

/** A parent that says "not sampled" is obeyed; one that is no traceparent begins nothing. */
function parseParent(traceparent: string | undefined): Context {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent ?? '')
  if (!match) return ROOT_CONTEXT
  const [, traceId = '', spanId = '', flags = ''] = match
  const parent = {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16) & TraceFlags.SAMPLED,
    isRemote: true,
  }
  return trace.setSpanContext(ROOT_CONTEXT, parent)
}

function fail(span: Span, error: unknown) {
  const known = error instanceof Error ? error : new Error(String(error))
  span.setStatus({ code: SpanStatusCode.ERROR, message: scrub(String(describeError(known).message)) })
  span.setAttribute('error.type', known.name)
}

function scrubbed(attributes: Attributes): Attributes {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [
      name,
      typeof value === 'string' ? scrub(value) : value,
    ]),
  )
}
