/**
 * Makes one call of `answerAll` out of those that come within one turn of the event loop, and at most one call in
 * `ms`: one statement for many rows costs little more than one for one. Who comes alone waits for nobody; when many
 * come, they wait for each other. `answerAll` answers in the order of what it was asked.
 */
export function gather<Asked, Answer>(
  ms: number,
  answerAll: (asked: Asked[]) => Promise<Answer[]>,
): (asked: Asked) => Promise<Answer> {
  let waiting: { asked: Asked; answer: PromiseWithResolvers<Answer> }[] = []
  let nextAt = 0

  function answerWaiting() {
    const batch = waiting
    nextAt = performance.now() + ms
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
    if (waiting.length === 0) {
      const wait = nextAt - performance.now()
      wait > 0 ? setTimeout(answerWaiting, wait) : setImmediate(answerWaiting)
    }
    const answer = Promise.withResolvers<Answer>()
    waiting.push({ asked, answer })
    return answer.promise
  }
}
