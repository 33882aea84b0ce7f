"""Lets the model reason several times over, and takes the answer that comes out most often."""

import ramet
from ramet.runtime import Engine


@ramet.program
def self_consistency(s: ramet.State, question: str, k: int = 8):
    s += f"Q: {question}\nA: Let's think step by step."
    votes = s.branch(ramet.gen("path", n=k, temperature=0.8, max_tokens=96, stop="\n\n"))
    for vote in votes:
        vote += "\nSo the answer is" + ramet.gen("vote", type=int)
    return ramet.majority(votes["vote"])


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(self_consistency, question="What is 3 + 4?").value)
