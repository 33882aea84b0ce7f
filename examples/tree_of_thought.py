"""Draws several plans, keeps the one that the model itself finds soundest, and carries it out."""

import ramet
from ramet.runtime import Engine


@ramet.program
def tree_of_thought(s: ramet.State, problem: str, width: int = 4):
    s += f"Problem: {problem}\nPlan:"
    plans = s.branch(ramet.gen("plan", n=width, temperature=0.9, max_tokens=64, stop="\n"))
    for plan in plans:
        plan.score("merit", "\nThis plan is sound and complete.")
    best = ramet.argmax(plans["merit"])
    s.keep(plans[best])
    s += "\nSolution:" + ramet.gen("solution", beams=4, max_tokens=96)
    return {"solution": s["solution"], "plan": plans[best]["plan"]}


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(tree_of_thought, problem="How do I boil an egg?").value)
