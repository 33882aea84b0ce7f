"""The HTML tree has the numbers and texts of the run, and nothing a text says gets out of it."""

import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

import ramet
from ramet.graph import Graph
from ramet.nodes import Root
from ramet.runtime import Engine, EngineConfig, Finished
from ramet.runtime.context import Span
from ramet.runtime.report import numbers, state_tree
from ramet.runtime.report_html import COLOURS, html_tree
from ramet.runtime.result import FinishedState
from ramet.runtime.sequence import Usage
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel

HOSTILE = "</div></details><script>alert(1)</script>&lt;\"'\x00\u202e"


@ramet.program
def nested(s: ramet.State) -> None:
    s += "a prompt that the branches share, a few blocks long"
    for number, branch in enumerate(s.fork(2)):
        branch += f"<b>{number}" + ramet.gen("text", max_tokens=4, ignore_eos=True)
        for letter, leaf in zip("xy", branch.fork(2), strict=True):
            leaf += letter + ramet.gen("more", max_tokens=3, ignore_eos=True)


@pytest.fixture
def done(byte_tokenizer: Tokenizer) -> Finished:
    return Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=64)).run(nested)


def state(text: str, *branches: FinishedState, usage: Usage | None = None) -> FinishedState:
    return FinishedState("", (Span(text, True),), {}, {}, usage or Usage(), branches)


def finished(root: FinishedState, name: str = "p") -> Finished:
    return Finished(None, Graph(name, (Root(),)), root)


def test_every_state_is_inside_its_parent_with_its_numbers(done: Finished) -> None:
    root = ET.fromstring(html_tree(done))
    (top,) = root.findall("details")
    assert (top.findtext("summary/b"), top.findtext("summary/span[2]")) == (
        "nested",
        numbers(done.root.usage),
    )
    branches = top.findall("div[2]/details")
    assert [branch.findtext("summary/b") for branch in branches] == ["branch 0", "branch 1"]
    for branch, told in zip(branches, done.root.branches, strict=True):
        assert branch.findtext("summary/span[2]") == numbers(told.usage)
        assert len(branch.findall("div[2]/details")) == 2
    assert done.root.branches[1].usage.prompt_reused > 0


def test_it_says_what_the_terminals_tree_says(done: Finished) -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(state_tree(done))
    said = [e.findtext("span[2]") or "" for e in ET.fromstring(html_tree(done)).iter("summary")]
    lines = [line for line in capture.get().splitlines() if " generated" in line]
    assert len(said) == len(lines) == 7
    assert all(line.rstrip().endswith(words) for line, words in zip(lines, said, strict=True))


def test_what_the_model_wrote_is_marked(done: Finished) -> None:
    root = ET.fromstring(html_tree(done))
    texts = [e.find("div") for e in root.iter("details")]
    for text, told in zip(texts, done.root.walk(), strict=True):
        assert text is not None
        assert len("".join(text.itertext())) >= len(told.text)
        marked = [e.text or "" for e in text.iter("mark")]
        assert len(marked) == sum(span.generated for span in told.written)


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    small = state("a", usage=Usage(prompt_reused=10, prompt_computed=0, generated=40))
    root = state("b", small, usage=Usage(prompt_reused=25, prompt_computed=50, generated=25))
    drawn = ET.fromstring(html_tree(finished(root)))
    bars = [
        [(e.get("style") or "").split("width:")[1] for e in bar]
        for bar in drawn.iter("span")
        if bar.get("role") == "img"
    ]
    green, amber, blue = COLOURS.values()
    assert bars == [
        [f"50.0px;background:{green}", f"100.0px;background:{amber}", f"50.0px;background:{blue}"],
        [f"20.0px;background:{green}", f"0.0px;background:{amber}", f"80.0px;background:{blue}"],
    ]


def test_hostile_texts_stay_texts() -> None:
    html = html_tree(finished(state(HOSTILE, state(HOSTILE)), HOSTILE))
    tags = {element.tag for element in ET.fromstring(html).iter()}
    assert tags == {"div", "details", "summary", "b", "span", "i", "br", "mark"}
    assert "&lt;script&gt;" in html
    assert "\x00" not in html
    assert "\u202e" not in html


def test_few_states_are_open_and_many_are_closed_but_for_the_first() -> None:
    for count, opened in ((2, 3), (20, 1)):
        html = html_tree(finished(state("a", *(state("b") for _ in range(count)))))
        assert html.count("<details open") == opened


def test_a_state_that_wrote_nothing_has_no_quote() -> None:
    assert "“" not in html_tree(finished(state("")))


def test_a_notebook_shows_it(done: Finished) -> None:
    assert done._repr_html_() == html_tree(done)
