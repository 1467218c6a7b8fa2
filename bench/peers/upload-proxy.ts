/** What one would put in front of an upload without thinking about it: @fastify/http-proxy. */
import proxy from '@fastify/http-proxy'
import Fastify from 'fastify'

const app = Fastify({ bodyLimit: Number.MAX_SAFE_INTEGER })
await app.register(proxy, { upstream: process.env.SINK! })
const url = await app.listen({ host: '127.0.0.1', port: 0 })
console.log(`Server listening at ${url}`)
