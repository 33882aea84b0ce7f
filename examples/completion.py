"""Goes on from a text that may break off anywhere, and keeps the likeliest of a few endings."""

import ramet
from ramet.runtime import Engine


@ramet.program
def completion(s: ramet.State, start: str, draw: int = 4):
    s += start + ramet.gen(
        "rest", best_of=draw, temperature=0.7, heal=True, max_tokens=16, stop="\n", seed=1
    )
    rest = s["rest"]
    return {"text": start + rest, "score": rest.score, "others": rest.texts}


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(completion, start="The capital of Fra").value["text"])
