"""Searches for likely headlines, lets the model choose one, and for the year it all happened in."""

import ramet
from ramet.runtime import Engine


@ramet.program
def headline(s: ramet.State, story: str, width: int = 4):
    s += f"Story: {story}\nHeadline:"
    titles = s.branch(ramet.gen("title", beams=width, max_tokens=12, stop="\n", length_penalty=0.8))
    for title in titles:
        title.score("merit", "\nThis headline is short and to the point.")
    best = ramet.argmax(titles["merit"])
    s.keep(titles[best])
    s += "\nYear: " + ramet.gen("year", regex="1[0-9][0-9][0-9]|20[0-9][0-9]", beams=4)
    return {
        "headline": titles[best]["title"],
        "year": s["year"],
        "sure": s["year"].score,
        "others": titles["title"],
    }


if __name__ == "__main__":
    with Engine("smollm2-135m") as engine:
        print(engine.run(headline, story="In 1868 the bridge was opened to all.").value)
