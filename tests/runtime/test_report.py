"""The report says what the numbers say."""

import re

from rich.console import Console

import ramet
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.report import sharing_table, state_tree
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel


@ramet.program
def two(s: ramet.State) -> None:
    s += "a prompt that both branches share, a few blocks long"
    for at, branch in enumerate(s.fork(2)):
        branch += f" {at}" + ramet.gen("text", max_tokens=4, ignore_eos=True)


def printed(drawing: object) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(drawing)
    return capture.get()


def test_the_tree_and_the_table_agree_with_the_usage(byte_tokenizer: Tokenizer) -> None:
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=64))
    done = engine.run(two)
    first, second = done.root.branches
    tree = printed(state_tree(done))
    for state in (first, second):
        usage = state.usage
        line = f"{usage.prompt_reused} reused, {usage.prompt_computed} computed, 4 generated"
        assert line in tree
    assert first.usage.prompt_reused == 0
    assert second.usage.prompt_reused > 0

    table = printed(sharing_table([done], engine.stats(), 16))
    asked = done.usage.prompt_computed + done.usage.prompt_reused
    assert re.search(rf"\b{asked}\s+prompt tokens, had each", table)
    assert re.search(rf"\b{done.usage.prompt_computed}\s+computed", table)
    assert re.search(r"\b8\s+generated", table)


def test_what_a_type_forced_is_told(byte_tokenizer: Tokenizer) -> None:
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=64))
    (done,) = engine.generate("Say: ", regex="[ab] and so on")
    assert not isinstance(done, Exception)
    assert "11 generated (10 forced by a type)" in printed(state_tree(done))
    assert re.search(
        r"\b11\s+generated \(10 forced", printed(sharing_table([done], engine.stats(), 16))
    )
    (plain,) = engine.generate("Say: ", max_tokens=2, ignore_eos=True)
    assert not isinstance(plain, Exception)
    assert "forced" not in printed(state_tree(plain))
