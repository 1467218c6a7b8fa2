/**
 * Makes one call of `answerAll` out of those that come within `ms` (0: within one turn of the event loop): one
 * statement for many rows costs little more than one for one. `answerAll` answers in the order of what it was asked.
 */
export function gather<Asked, Answer>(
  ms: number,
  answerAll: (asked: Asked[]) => Promise<Answer[]>,
): (asked: Asked) => Promise<Answer> {
  let waiting: { asked: Asked; answer: PromiseWithResolvers<Answer> }[] = []

  function answerWaiting() {
    const batch = waiting
    waiting = []
    answerAll(batch.map(({ asked }) => asked)).then(
      answers => {
        for (const [i, { answer }] of batch.entries()) answer.resolve(answers[i]!)
      },
      error => {
        for (const { answer } of batch) answer.reject(error)
      },
    )
  }

  return asked => {
    if (waiting.length === 0) ms === 0 ? setImmediate(answerWaiting) : setTimeout(answerWaiting, ms)
    const answer = Promise.withResolvers<Answer>()
    waiting.push({ asked, answer })
    return answer.promise
  }
}
