import type pg from 'pg'
import type { Entry } from './events.ts'
import { textRows } from './statement.ts'

/** What one run wants to add to its project's log, in JSON text, and the fence that it must still hold. */
export interface Batch {
  projectId: string
  runId: string
  attempt: number
  /** Batches of a run are counted: one more than the last that was written. */
  number: number
  openMessageId: string | null
  chunks: string[]
}

/** `lost`: another attempt has the run, or this very batch was written before. `busy`: somebody holds a lock. */
export type Written = Entry[] | 'lost' | 'busy'

/**
 * Several runs' batches in one statement and one commit. Each is decided by itself: its fence and its project's
 * number are locked first, and one that does not hold, or is locked by somebody else, leaves the others alone. So
 * nothing waits for a slow transaction, and two statements cannot wait for each other.
 *
 * The limit leaves nothing out. Without it the planner counts on a hundred batches and reads `runs` and `projects` as
 * a whole to find them, as long as they have a few thousand rows; a limit it does not know makes it count on ten.
 */
const APPEND = (wait: boolean) => `
  with batch as materialized (
    select b.*, json_array_length(chunks) as size from json_to_recordset($1) as b
      (n int, project_id uuid, run_id uuid, attempt int, number int, open_message_id text, chunks json)
    limit (select json_array_length($1))
  ), locked as materialized (
    select b.n, r.attempt = b.attempt and r.log_writes = b.number - 1 as holds
    from batch b join runs r on r.id = b.run_id join projects p on p.id = b.project_id
    for no key update of r, p ${wait ? '' : 'skip locked'}
  ), due as materialized (
    select b.*, sum(b.size) over (partition by b.project_id order by b.n) - b.size as offset_in_project
    from batch b join locked l on l.n = b.n and l.holds
  ), counted as (
    update runs set log_writes = due.number, open_message_id = due.open_message_id
    from due where runs.id = due.run_id
  ), head as (
    update projects set last_seq = last_seq + total.size, last_activity_at = now()
    from (select project_id, sum(size) as size from due group by project_id) total
    where projects.id = total.project_id
    returning projects.id, last_seq - total.size as base, date_trunc('milliseconds', clock_timestamp()) as at
  ), written as (
    insert into events (project_id, seq, run_id, at, chunk)
    select due.project_id, head.base + due.offset_in_project + item.position, due.run_id, head.at, item.chunk
    from due join head on head.id = due.project_id,
      json_array_elements(due.chunks) with ordinality as item (chunk, position)
  )
  select locked.n, (head.base + due.offset_in_project)::bigint, (extract(epoch from head.at) * 1000)::bigint
  from locked left join due on due.n = locked.n left join head on head.id = due.project_id`

const STATEMENTS = {
  wait: { name: 'append_batches_waiting', text: APPEND(true) },
  skip: { name: 'append_batches', text: APPEND(false) },
}

/** @returns what became of each batch, in their order; `wait: true` waits for locks, so that none is `busy` */
export async function appendBatches(pool: pg.Pool, batches: Batch[], wait: boolean): Promise<Written[]> {
  const statement = STATEMENTS[wait ? 'wait' : 'skip']
  const rows = await textRows(pool, statement, `[${batches.map(recordOf).join()}]`)
  const written: Written[] = batches.map(() => (wait ? 'lost' : 'busy'))
  for (const [n, base, at] of rows) {
    const i = Number(n) - 1
    written[i] = base == null ? 'lost' : entriesOf(batches[i]!, Number(base), new Date(Number(at)))
  }
  return written
}

/** Chunks are JSON already, and stay as they are. */
function recordOf({ projectId, runId, attempt, number, openMessageId, chunks }: Batch, i: number): string {
  const row = {
    n: i + 1,
    project_id: projectId,
    run_id: runId,
    attempt,
    number,
    open_message_id: openMessageId,
  }
  return `${JSON.stringify(row).slice(0, -1)},"chunks":[${chunks.join()}]}`
}

function entriesOf({ projectId, runId, chunks }: Batch, base: number, at: Date): Entry[] {
  return chunks.map((chunk, i) => ({ projectId, seq: base + i + 1, runId, at, chunk }))
}
