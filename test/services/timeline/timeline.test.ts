import { applyPatch } from 'rfc6902'
import t, { type Test } from 'tap'
import { loadProjectState } from '../../../src/db/projects.ts'
import { type ClientState, clientState } from '../../../src/services/timeline/client-state.ts'
import type { ProjectState } from '../../../src/services/upstream/client.ts'
import { problemOf, setStage } from '../accounts/stage.ts'

const clip = (title: string, d = 5_000) => ({ d, m: { title } })
const draftOf = (clips: object[], titles: object[] = []) =>
  JSON.stringify({
    v: 1,
    t: [{ tt: 0, sg: clips }, ...(titles.length > 0 ? [{ tt: 7, sg: titles }] : [])],
  })
const video = (id: string) => ({ id, kind: 'video' as const, name: `${id}.mp4`, durationMs: 1_000 })

let reads = 0
const stateOf = (draft: string | null, media: ProjectState['media'] = []): ProjectState => ({
  draft,
  media,
  fingerprint: `read ${++reads}`,
})

async function setProject(t: Test) {
  const stage = await setStage(t)
  const { projects, timelines, log, alice, db } = stage
  const { id } = await projects.create(alice.userId, { language: 'en' })
  const runId = crypto.randomUUID()
  return {
    ...stage,
    id,
    runId,
    observe: (state: ProjectState, run?: string) =>
      log.transaction((tx, append) => timelines.observe(tx, append, id, state, run)),
    entries: async () => {
      const page = await log.page(id, undefined, 200)
      if (page === 'not a cursor') throw new Error(page)
      return page.entries.map(entry => ({ runId: entry.runId, chunk: JSON.parse(entry.chunk) }))
    },
    stored: async () => clientState((await loadProjectState(db, id))!),
  }
}

t.test('a client that applies every delta has what the row has', async t => {
  const { observe, entries, stored, runId } = await setProject(t)
  let copy: ClientState = structuredClone(await stored())
  t.match(copy, { revision: 0, timeline: { tracks: [], durationMs: 0, exportable: false }, media: [] })
  const states = [
    stateOf(draftOf([clip('beach')])),
    stateOf(draftOf([clip('city'), clip('beach')]), [video('a')]),
    stateOf(draftOf([clip('city'), clip('beach', 2_000)], [clip('a/b~c')]), [video('a'), video('b')]),
    stateOf(draftOf([clip('beach', 2_000), clip('city')]), [video('b')]),
    stateOf(null),
    stateOf('"<draft><seg/></draft>"'),
    stateOf(draftOf([{ d: 1, m: { title: 'NUL \u0000 and half a pair \ud83d' } }])),
  ]
  let patched = 0
  for (const state of states) {
    const { before, after, changed } = await observe(state, runId)
    t.ok(changed)
    t.equal(after.revision, before.revision + 1)
    const delta = (await entries()).filter(({ chunk }) => chunk.type === 'STATE_DELTA').at(-1)
    t.equal(delta?.runId, runId, 'an entry of the run')
    t.same(delta?.chunk.delta[0], { op: 'test', path: '/revision', value: before.revision })
    const errors = applyPatch(copy, delta!.chunk.delta).filter(Boolean)
    t.same(errors, [])
    t.same(copy, await stored())
    patched += 1
  }
  t.equal((await entries()).filter(({ chunk }) => chunk.type === 'STATE_DELTA').length, patched)
  copy = { ...copy, revision: 1 }
  const last = (await entries()).findLast(({ chunk }) => chunk.type === 'STATE_DELTA')!
  t.match(applyPatch(copy, last.chunk.delta)[0], { name: 'TestError' }, 'a copy that drifted notices')
})

t.test('what changed is told to the project’s readers', async t => {
  const { observe, entries, projects, alice, id } = await setProject(t)
  const draft =
    '{ "v": 1.0, "big": 7341829405512345601, "t":[{"tt":0,"sg":[{"d":5000,"m":{"title":"x\\/y"}}]}] }'
  const { changed } = await observe(stateOf(draft, [video('a')]))
  t.ok(changed)
  t.match(await entries(), [
    {
      runId: null,
      chunk: { name: 'project.updated', value: { id, revision: 1, exportable: true, summary: /x\/y/ } },
    },
  ])
  t.match(await projects.get(alice.userId, id), { revision: 1, exportable: true, summary: /x\/y/ })
  t.notMatch(JSON.stringify(await entries()), '7341829405512345601', 'the draft itself is nobody’s business')
})

t.test('the same read again changes nothing but the time of it', async t => {
  const { observe, entries, db, id } = await setProject(t)
  const state = stateOf(draftOf([clip('beach')]))
  await observe(state)
  const before = (await loadProjectState(db, id))!
  const told = await entries()
  const again = await observe(state)
  t.notOk(again.changed)
  t.equal(again.after, again.before)
  t.same(await entries(), told)
  const after = (await loadProjectState(db, id))!
  t.ok(after.stateFetchedAt! >= before.stateFetchedAt!)
  t.same({ ...after, stateFetchedAt: null }, { ...before, stateFetchedAt: null })
})

t.test('two that look at once count one after the other', async t => {
  const { observe, entries, stored } = await setProject(t)
  const states = ['a', 'b', 'c', 'd'].map(title => stateOf(draftOf([clip(title)])))
  const seen = await Promise.all(states.map(state => observe(state)))
  t.same(seen.map(({ after }) => after.revision).toSorted(), [1, 2, 3, 4])
  t.equal((await stored()).revision, 4)
  t.same(
    (await entries()).map(({ chunk }) => chunk.value.revision),
    [1, 2, 3, 4],
  )
})

t.test('nothing is left of a look whose transaction failed', async t => {
  const { timelines, log, id, stored, entries } = await setProject(t)
  const failed = log.transaction(async (tx, append) => {
    await timelines.observe(tx, append, id, stateOf(draftOf([clip('beach')])))
    throw new Error('no')
  })
  await t.rejects(failed, { message: 'no' })
  t.equal((await stored()).revision, 0)
  t.same(await entries(), [])
})

t.test('a view is read afresh, and is the last known one when the backend does not answer', async t => {
  const { projects, timelines, sandbox, alice, id, createCaller, heard } = await setProject(t)
  const view = () => timelines.view(alice.userId, id, 'web')
  const empty = await view()
  t.match(empty, { tracks: [], durationMs: 0, exportable: false, summary: /empty/i })
  const { sessionId } = await projects.own(alice.userId, id)
  sandbox.state.setDraft(sessionId!, draftOf([clip('beach')], [clip('Hello', 1_000)]))
  const fresh = await view()
  t.match(fresh, {
    tracks: [
      { kind: 'video', segments: [{ startMs: 0, durationMs: 5_000, title: 'beach' }] },
      { kind: 'text', segments: [{ text: 'Hello' }] },
    ],
    durationMs: 5_000,
    exportable: true,
    summary: 'Timeline (2 tracks): 1. Video: beach (0-5s) 2. Title: "Hello" (0-1s)',
    revision: empty.revision + 1,
  })
  sandbox.state.setDraft(sessionId!, draftOf([clip('unseen')]))
  for (const fault of [
    { answer: 'status', status: 503 },
    { answer: 'garbage' },
    { answer: 'code', code: 2001 },
  ] as const) {
    sandbox.faults.add({ on: 'state', times: 3, ...fault })
    t.same(await view(), fresh, fault.answer)
    sandbox.faults.clear()
  }
  const later = await view()
  t.match(later, { revision: fresh.revision + 1, tracks: [{ segments: [{ title: 'unseen' }] }] })
  t.ok(later.fetchedAt > fresh.fetchedAt)

  const bob = await createCaller()
  const states = heard('state').length
  t.match(await problemOf(timelines.view(bob.userId, id, 'web')), { code: 'not_found' })
  t.equal(heard('state').length, states)
})

t.test('in the project’s language', async t => {
  const { projects, timelines, sandbox, alice } = await setStage(t)
  const { id } = await projects.create(alice.userId, { language: 'zh-CN' })
  await timelines.view(alice.userId, id, 'web')
  const { sessionId } = await projects.own(alice.userId, id)
  sandbox.state.setDraft(sessionId!, draftOf([clip('海滩')]))
  t.match((await timelines.view(alice.userId, id, 'web')).summary, /时间线.*海滩/)
})
