"""A small tree of thoughts: plans, steps for each plan, and a score for each end, in nested forks.

python examples/sglang_tree.py
"""

from typing import Any

import ramet.compat.sglang as sgl

PLANS, STEPS = 2, 2


def grow(s: Any, depth: int) -> None:
    """Branches of branches; the leaves judge what they came to."""
    if depth == 0:
        s += sgl.user("How good is this, from 1 to 5?")
        s += sgl.assistant(sgl.select("score", ["1", "2", "3", "4", "5"]))
        return
    s += sgl.user("Write the next step of a plan, in one sentence.")
    forks = s.fork(PLANS if depth == 2 else STEPS)
    forks += sgl.assistant(sgl.gen("thought", max_tokens=24, stop="\n", temperature=0.8))
    for f in forks:
        grow(f, depth - 1)
    forks.join()


@sgl.function
def tree(s: Any, goal: str) -> None:
    s += sgl.system("You make plans.")
    s += sgl.user("My goal: " + goal)
    s += sgl.assistant("I see.")
    grow(s, 2)


def main() -> Any:
    sgl.set_default_backend(sgl.Runtime(model_path="smollm2-135m"))
    state = tree.run(goal="learn to swim")
    for plan, scores in zip(state["thought"], state["score"], strict=True):
        print(f"{scores}  {plan.strip()}")
    return state


if __name__ == "__main__":
    main()
