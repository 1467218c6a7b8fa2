export type Random = ReturnType<typeof randomFrom>

/** A small generator with a seed, so that what failed can be played again. */
export function randomFrom(seed: number) {
  let state = (seed * 2_654_435_761) % 2_147_483_648
  const next = () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  }
  return {
    chance: (probability: number) => next() < probability,
    upTo: (limit: number) => Math.floor(next() * limit),
    one: <T>(of: readonly T[]): T => of[Math.floor(next() * of.length)]!,
  }
}
