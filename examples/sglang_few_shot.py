"""Few-shot answers and a choice, written for SGLang's frontend; only the import line differs.

python examples/sglang_few_shot.py
"""

from typing import Any

import ramet.compat.sglang as sgl

SHOTS = [
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Egypt?", "Cairo"),
]
COUNTRIES = ["Italy", "Germany", "Spain"]


@sgl.function
def capital(s: Any, country: str) -> None:
    s += "Answer with one word.\n\n"
    for question, answer in SHOTS:
        s += "Q: " + question + "\nA: " + answer + "\n\n"
    s += "Q: What is the capital of " + country + "?\nA:" + sgl.gen("answer", 8, stop="\n")
    s += "\nQ: On which continent is that?\nA:"
    s += sgl.select("continent", [" Africa", " Asia", " Europe"])


def main() -> Any:
    sgl.set_default_backend(sgl.Runtime(model_path="smollm2-135m"))
    states = capital.run_batch([{"country": country} for country in COUNTRIES], temperature=0)
    for country, state in zip(COUNTRIES, states, strict=True):
        print(f"{country}: {state['answer'].strip()}, in{state['continent']}")
    return states


if __name__ == "__main__":
    main()
