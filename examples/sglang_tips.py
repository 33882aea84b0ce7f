"""Tips suggested side by side and summed up, written for SGLang's frontend.

python examples/sglang_tips.py
"""

from typing import Any

import ramet.compat.sglang as sgl


@sgl.function
def suggest(s: Any, topic: str, count: int = 3) -> None:
    s += sgl.system("You are a concise assistant.")
    s += sgl.user("Give me " + str(count) + " tips about " + topic + ".")
    s += sgl.assistant_begin()
    forks = s.fork(count)
    for i, f in enumerate(forks):
        f += "Tip " + str(i + 1) + ":" + sgl.gen("tip", max_tokens=32, stop="\n")
    forks.join()
    for i, tip in enumerate(s["tip"]):
        s += "Tip " + str(i + 1) + ":" + tip + "\n"
    s += "In summary," + sgl.gen("summary", max_tokens=48, stop="\n")
    s += sgl.assistant_end()


def main() -> Any:
    sgl.set_default_backend(sgl.Runtime(model_path="smollm2-135m"))
    state = suggest.run(topic="brewing tea", temperature=0, stream=True)
    for text in state.text_iter():
        print(text, end="", flush=True)
    return state


if __name__ == "__main__":
    main()
