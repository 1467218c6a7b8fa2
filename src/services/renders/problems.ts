import { type Problem, type ProblemCode, toProblem } from '../../problems.ts'
import { languageOf, problemWords } from '../words.ts'

export function nothingToExport(language: string): Problem {
  const message = problemWords(languageOf(language), 'nothing_to_export', true)
  return toProblem('nothing_to_export', message)
}

/** A render that came to nothing, for a reason nobody can tell the user more about than to try again. */
export function unfinished(code: ProblemCode, language: string): Problem {
  const message = problemWords(languageOf(language), 'render_lost', true)
  if (!message) return toProblem(code)
  return toProblem(code, message, { userState: { code, message, action: { kind: 'retry' } } })
}
