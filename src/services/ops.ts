import type { Db } from '../db/client.ts'
import {
  findRender,
  listAccounts,
  listRenders,
  listRuns,
  listUploads,
  makeDue,
  type Page,
} from '../db/ops.ts'
import {
  countActive,
  type Kind,
  readMintBudget,
  readQueues,
  summarize,
  type WindowRow,
} from '../db/overview.ts'
import { notFound } from '../problems.ts'
import type { Renders } from './renders/renders.ts'

/** A row of a view as operators see it: times as text, and nothing where there is nothing. */
type Item = Record<string, string | number | boolean>
type ItemList = { items: Item[]; next: string | null }

/** What operators see of everybody's work: the views of the schema `ops`, and nothing besides. */
export interface Ops {
  overview(): Promise<Record<string, unknown>>
  renders(page: Page): Promise<ItemList>
  runs(page: Page): Promise<ItemList>
  uploads(page: Page): Promise<ItemList>
  accounts(page: Page): Promise<ItemList>
  /** Has a render looked at now. One that is in a worker's hands already, or has ended, stays as it is. */
  advance(id: string): Promise<Item>
}

export function createOps(options: { db: Db; renders: Pick<Renders, 'wake'> }): Ops {
  const { db, renders } = options

  async function overviewOf(kind: Kind) {
    const [active, windows] = await Promise.all([countActive(db, kind), summarize(db, kind)])
    const oldest = Math.min(...active.map(({ oldestAt }) => oldestAt?.getTime() ?? Number.POSITIVE_INFINITY))
    return {
      active: Object.fromEntries(active.map(({ state, count }) => [state, count])),
      ...(Number.isFinite(oldest) ? { oldestActiveAt: new Date(oldest).toISOString() } : {}),
      windows: Object.fromEntries(Object.entries(windows).map(([name, row]) => [name, withRate(row)])),
    }
  }

  return {
    async overview() {
      const [renders, runs, uploads, mintBudget, queues] = await Promise.all([
        overviewOf('renders'),
        overviewOf('runs'),
        overviewOf('uploads'),
        readMintBudget(db),
        readQueues(db),
      ])
      return { renders, runs, uploads, mintBudget: toItem(mintBudget), queues: queues.map(toItem) }
    },

    renders: page => listOf(page, page => listRenders(db, page)),
    runs: page => listOf(page, page => listRuns(db, page)),
    uploads: page => listOf(page, page => listUploads(db, page)),
    accounts: page => listOf(page, page => listAccounts(db, page)),

    async advance(id) {
      await makeDue(db, id)
      const row = await findRender(db, id)
      if (!row) throw notFound()
      renders.wake()
      return toItem(row)
    },
  }
}

async function listOf(page: Page, read: (page: Page) => Promise<object[]>): Promise<ItemList> {
  const rows = await read({ ...page, limit: page.limit + 1 })
  const items = rows.slice(0, page.limit).map(toItem)
  return { items, next: rows.length > page.limit ? String(items.at(-1)!.id) : null }
}

function toItem(row: object): Item {
  const known = Object.entries(row).filter(([, value]) => value !== null)
  return Object.fromEntries(
    known.map(([name, value]) => [name, value instanceof Date ? value.toISOString() : value]),
  )
}

function withRate({ succeeded, failed, p50Ms, p95Ms }: WindowRow) {
  const ended = succeeded + failed
  return {
    succeeded,
    failed,
    ...(ended > 0 ? { successRate: succeeded / ended } : {}),
    ...(p50Ms === null || p95Ms === null ? {} : { p50Ms: Math.round(p50Ms), p95Ms: Math.round(p95Ms) }),
  }
}
