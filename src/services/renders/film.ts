import type { RenderState } from '../upstream/client.ts'

const LONGEST_URL = 8_192

/** What a finished render leaves in its row, whatever figures and links the upstream gives. */
export function filmOf({ url, bytes, durationMs }: RenderState) {
  return {
    progress: 100,
    problem: null,
    fileUrl: usableUrl(url),
    fileBytes: whole(bytes, Number.MAX_SAFE_INTEGER),
    durationMs: whole(durationMs, 2 ** 31 - 1),
  }
}

/** In its normal form, which has no character that a database column refuses. */
export function usableUrl(url: string | null): string | null {
  const href = url === null ? null : (URL.parse(url)?.href ?? null)
  return href !== null && href.length <= LONGEST_URL ? href : null
}

function whole(value: number | null, max: number): number | null {
  return value !== null && value >= 0 && value <= max ? Math.round(value) : null
}
