"""Several judges look at one essay, each for one thing; a chair sums up what they say."""

import ramet
from ramet.runtime import Engine

ESSAY = "Bees are small. They make honey, and without them there would be few apples."
GRADES = [" poor", " fair", " good"]


@ramet.program
def judge_panel(s: ramet.State, essay: str, aspects: list):
    s += f"Essay: {essay}\n"
    judges = s.fork(aspects)
    for aspect, judge in zip(aspects, judges, strict=True):
        judge += f"\nAs for {aspect}, the essay is"
        judge += ramet.select("verdict", GRADES, by="sum_logprob")
        judge += ", because" + ramet.gen("reason", max_tokens=24, stop=[".", "\n"])
    s += "\nThe judges say: " + judges["verdict"].join(",") + ".\nAll in all, the essay is"
    s += ramet.select("overall", GRADES)
    return {
        "overall": s["overall"],
        "verdicts": judges["verdict"],
        "sure": judges["verdict"].prob,
    }


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(judge_panel, essay=ESSAY, aspects=["style", "facts", "length"]).value)
