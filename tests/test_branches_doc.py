"""docs/branches.md against the code: its programs run, both forms are one, its claims hold."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet.passes import simplify
from ramet.runtime import Engine
from ramet.runtime.tokenizer import Tokenizer
from tests.pages import Block, blocks_of, page_of, pairs_of
from tests.runtime.conftest import all_back, byte_tokenizer  # noqa: F401
from tests.test_language_doc import toy_engine

ROOT = Path(__file__).parent.parent
PAGE = page_of("branches")
BLOCKS = blocks_of(PAGE)
TEXTS = [each for each in BLOCKS if each.language == "ramet"]
PYTHON = [each for each in BLOCKS if each.language == "python"]
PAIRS = pairs_of(BLOCKS)


@pytest.fixture
def engine(byte_tokenizer: Tokenizer) -> Iterator[Engine]:  # noqa: F811
    with toy_engine(byte_tokenizer) as engine:
        yield engine


def defined(block: Block, engine: Engine) -> dict[str, Any]:
    names: dict[str, Any] = {"ramet": ramet, "engine": engine}
    exec(compile(block.code, f"branches.md:{block.line}", "exec"), names)
    return names


def test_every_block_is_run() -> None:
    assert {each.language for each in BLOCKS} == {"ramet", "python"}
    assert (len(TEXTS), len(PAIRS), len(PYTHON)) == (3, 2, 3)


@pytest.mark.parametrize("block", TEXTS, ids=str)
def test_a_program_runs(block: Block, engine: Engine) -> None:
    assert engine.run(ramet.loads(block.code), **block.arguments).value
    assert all_back(engine.core)


@pytest.mark.parametrize(("text", "python"), PAIRS, ids=str)
def test_both_forms_are_one(text: Block, python: Block, engine: Engine) -> None:
    one = engine.run(ramet.loads(text.code), **text.arguments)
    other = engine.run(defined(python, engine)[text.name], **text.arguments)
    assert simplify(one.graph) == simplify(other.graph)
    assert one.value == other.value
    assert one.text == other.text


# -- claims


def test_a_search_holds_no_more_the_deeper_it_gets(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    search = defined(PYTHON[-1], engine)["search"]
    assert capsys.readouterr().out

    def most_sequences(depth: int) -> int:
        run = engine.start(search, {"problem": "x", "depth": depth})
        most = 0
        while not run.done:
            engine.round([run])
            most = max(most, engine.stats().sequences)
        assert run.result().value
        assert all_back(engine.core)
        return most

    # The frontier, its branches, and what a score is computed on.
    assert most_sequences(12) == most_sequences(3)


def test_a_branch_computes_the_last_token_of_its_sample_and_what_it_appends(
    engine: Engine,
) -> None:
    program = ramet.loads("""
program p():
    "What is it?"
    fork gen thought(n=3, temperature=1.0, max_tokens=20, ignore_eos=true) as paths:
        " bead"
        gen more(max_tokens=2, ignore_eos=true)
    fork gen line(beams=3, max_tokens=20, ignore_eos=true) as ends:
        " cab"
        gen more(max_tokens=2, ignore_eos=true)
""")
    done = engine.run(program)
    costs = [branch.usage.prompt_computed for branch in done.root.branches]
    assert costs == [1 + len(" bead")] * 3 + [1 + len(" cab")] * 3


def test_what_keep_lets_go_is_free_in_the_same_step(engine: Engine) -> None:
    held: list[int] = []

    @ramet.program
    def kept(s: ramet.State) -> None:
        s += "What is it?"
        drafts = s.branch(ramet.gen("draft", n=4, temperature=1.0, max_tokens=64, ignore_eos=True))
        assert len(drafts[0]["draft"].look()) > 0
        held.append(engine.stats().cache.held)
        s.keep(drafts[1])
        s += ramet.gen("rest", max_tokens=1)
        assert s["rest"].look() is not None
        held.append(engine.stats().cache.held)

    engine.run(kept)
    before, after = held
    assert before >= 4 * 4, "four drafts of 64 tokens, in blocks of 16"
    assert after <= 6, "one draft and its prompt"


def test_the_table_of_sharing_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "bench" / "results" / "sharing.json").read_text())["rows"]
    rows = {
        (row["trace"], row["method"], row["width"]): row["saved"]
        for row in measured
        if "method" in row
    }
    found = re.findall(r"^\| (parallel sampling|beam search) \| (\d) \|(.*)\|$", PAGE, re.MULTILINE)
    assert len(found) == len(rows) // 2 == 6
    for method, width, cells in found:
        alpaca, _, sharegpt, _ = (cell.strip() for cell in cells.split("|"))
        assert alpaca == f"{rows['Alpaca', method, int(width)]:.1%}".replace("%", " %")
        assert sharegpt == f"{rows['ShareGPT', method, int(width)]:.1%}".replace("%", " %")
