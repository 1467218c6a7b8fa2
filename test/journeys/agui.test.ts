import { ChatClient, fetchServerSentEvents } from '@tanstack/ai-client'
import t, { type Test } from 'tap'
import { doorOf, readAll, runInput } from '../helpers/agui-door.ts'
import { type Client, signIn } from '../helpers/client.ts'
import { testDatabaseUrl } from '../helpers/database.ts'
import { type Gateway, startGateway, until } from '../helpers/gateway.ts'
import { checkJournal } from '../helpers/journal.ts'
import { startSandbox } from '../sandbox/helpers.ts'

const sandbox = await startSandbox(t, { speed: { textMs: 100, editMs: 1_500, chunkMs: 5 } })
const env = { DATABASE_URL: await testDatabaseUrl(t), NEMO_API_URL: sandbox.url }
const [a, b] = await Promise.all([startGateway(t, env), startGateway(t, env)])
const title = (word: string) => `Add a title that says "${word}"`

t.test('the same request fifty times at two instances is one run', async t => {
  const alice = await signIn(a.url)
  const project = await alice.projectWithClip()
  const input = runInput(project, 'once', title('One'))
  const doors = [doorOf(alice), doorOf(alice.at(b.url))]
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => doors[i % 2]!.post(input)))
  const served = answers.filter(({ status }) => status === 200)
  t.ok(served.length >= 40, 'all but those beyond the twenty readers of each instance')
  const stories = await Promise.all(served.map(readAll))
  t.equal(new Set(stories.map(story => JSON.stringify(story))).size, 1, 'both tell the same')
  checkJournal(t, sandbox, { messages: [title('One')], renders: 0 })
})

/** Has a chat of TanStack AI ask for an edit, takes its gateway away meanwhile, and sees it end at the other one. */
async function loseTheGateway(t: Test, lost: Gateway, other: Gateway, signal: NodeJS.Signals, word: string) {
  const bob: Client = await signIn(other.url)
  const project = await bob.projectWithClip()
  let target = lost.url
  let requests = 0
  const types: string[] = []
  const errors: Error[] = []
  const chat = new ChatClient({
    threadId: project,
    connection: fetchServerSentEvents(`${other.url}/v1/agui`, {
      headers: doorOf(bob).headers,
      // What a load balancer does.
      fetchClient: (url, init) => {
        requests++
        return fetch(String(url).replace(other.url, target), init)
      },
      reconnect: { delayMs: 50 },
    }),
    onChunk: chunk => types.push(chunk.type),
    onError: error => errors.push(error),
  })
  t.teardown(() => chat.dispose())
  const said = chat.sendMessage(title(word))
  await until(async () => types.includes('STATE_SNAPSHOT'))
  target = other.url
  lost.kill(signal)
  await said
  t.strictSame(errors, [])
  t.ok(requests > 1, 'it was cut off')
  t.equal(types.filter(type => type === 'RUN_STARTED').length, 1)
  t.equal(types.at(-1), 'RUN_FINISHED')
  const { items } = await bob.get(`/v1/projects/${project}/runs`)
  t.match(items, [{ state: 'completed', outcome: 'edited' }])
  const told = chat.getMessages().at(-1)!
  t.match(told.parts.map(part => (part.type === 'text' ? part.content : '')).join(''), word)
  t.equal(
    sandbox.journal().filter(({ endpoint, text }) => endpoint === 'run' && text === title(word)).length,
    1,
  )
}

t.test('a deploy in the middle of a run: the chat goes on at the other instance', async t => {
  await loseTheGateway(t, a, b, 'SIGTERM', 'Deployed')
  t.equal(await a.ended, 0)
})

t.test('a crash in the middle of a run: the chat goes on at the other instance', async t => {
  await loseTheGateway(t, b, await startGateway(t, env), 'SIGKILL', 'Crashed')
})
