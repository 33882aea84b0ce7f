"""Reasons in words first; the answer is read off afterwards, as a number."""

import ramet
from ramet.runtime import Engine


@ramet.program
def chain_of_thought(s: ramet.State, question: str):
    s += ramet.system("You are a careful teacher.")
    s += ramet.user(question)
    with s.assistant():
        s += "Let's think step by step." + ramet.gen("reasoning", max_tokens=96, stop="\n\n")
        s += "\nTherefore the answer is " + ramet.gen("answer", type=int)
    return {"answer": s["answer"], "reasoning": s["reasoning"]}


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(chain_of_thought, question="What is 12 plus 30?").value)
