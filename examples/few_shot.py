"""Answers a question after some that are answered already."""

import ramet
from ramet.runtime import Engine

SHOTS = [
    {"q": "What is the capital of France?", "a": "Paris"},
    {"q": "What is the capital of Spain?", "a": "Madrid"},
]


@ramet.program
def few_shot(s: ramet.State, question: str, shots: list):
    for shot in shots:
        s += f"Q: {shot['q']}\nA: {shot['a']}\n\n"
    s += f"Q: {question}\nA:"
    s += ramet.gen("answer", max_tokens=48, stop="\n")
    return s["answer"]


if __name__ == "__main__":
    questions = [f"What is the capital of {land}?" for land in ("Italy", "Poland", "Japan")]
    with Engine("smollm2-135m") as engine:
        items = [{"question": question, "shots": SHOTS} for question in questions]
        for question, done in zip(questions, engine.run_batch(few_shot, items), strict=True):
            print(question, getattr(done, "value", done))  # an error stays in its place
