"""Chooses one of three labels, and says how sure it is."""

import ramet
from ramet.runtime import Engine


@ramet.program
def classify(s: ramet.State, review: str):
    s += f"Review: {review}\nSentiment:"
    s += ramet.select("label", [" positive", " negative", " neutral"])
    return {"label": s["label"], "confidence": s["label"].prob}


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(classify, review="A wonderful film from beginning to end.").value)
