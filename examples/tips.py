"""Writes several tips side by side, then sums them up."""

import ramet
from ramet.runtime import Engine


@ramet.program
def tips(s: ramet.State, topic: str, n: int = 3):
    s += ramet.system("You are a concise expert.")
    s += ramet.user(f"Give me {n} tips about {topic}.")
    with s.assistant():
        branches = s.fork(n)
        for i, branch in enumerate(branches):
            branch += f"Tip {i + 1}:" + ramet.gen("tip", max_tokens=48, stop="\n")
        s += "Here are the tips.\n" + branches["tip"].join("\n") + "\nIn summary,"
        s += ramet.gen("summary", max_tokens=96)
    return s["summary"]


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(tips, topic="brewing tea").value)
