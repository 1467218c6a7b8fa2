/** A page of a list as clients see it; `next` is the id to go on after. */
export interface List<T> {
  items: T[]
  next: string | null
}

/** At most `limit` items. `read` is asked for one row more, which tells whether a page follows. */
export async function listOf<Row, T extends { id: string }>(
  limit: number,
  read: (limit: number) => Promise<Row[]>,
  view: (row: Row) => T,
): Promise<List<T>> {
  const rows = await read(limit + 1)
  const items = rows.slice(0, limit).map(row => view(row))
  return { items, next: rows.length > limit ? items.at(-1)!.id : null }
}
