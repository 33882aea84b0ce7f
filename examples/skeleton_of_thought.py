"""Writes the points of an answer first, then fills all of them in at once."""

import ramet
from ramet.runtime import Engine


@ramet.program
def skeleton_of_thought(s: ramet.State, topic: str, points: int = 3):
    s += f"An article about {topic} has {points} sections.\n"
    titles: list[str] = []
    for i in range(points):
        s += f"Section {i + 1}:" + ramet.gen("title", max_tokens=10, stop="\n") + "\n"
        titles.append(s["title"].strip())
    sections = s.fork(titles)
    for title, section in zip(titles, sections, strict=True):
        section += f'\nThe section "{title}" says:' + ramet.gen("body", max_tokens=40, stop="\n")
    return {"titles": titles, "bodies": sections["body"]}


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(skeleton_of_thought, topic="bees").value)
