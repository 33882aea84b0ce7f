"""Lets the model use a tool until it has finished."""

import ramet
from ramet.runtime import Engine

ACTION = {
    "type": "object",
    "properties": {
        "tool": {"enum": ["add", "finish"]},
        "x": {"type": "integer"},
        "y": {"type": "integer"},
    },
    "required": ["tool", "x", "y"],
}


@ramet.program
def agent(s: ramet.State, task: str):
    s += ramet.system("Answer with one JSON action per line.")
    s += ramet.user(task)
    for _ in range(6):
        s += ramet.assistant(ramet.gen("action", json_schema=ACTION))
        action = s["action"]
        if action["tool"] == "finish":
            break
        s += ramet.user(f"Result: {action['x'] + action['y']}")
    return s["action"]


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(agent, task="Add 2 and 3.").value)
