"""Types whose tokens begin with the text that they come after."""

import random

import pytest

from ramet.runtime.errors import GrammarError
from ramet.runtime.grammar import GrammarCompiler
from ramet.types import Type
from tests.runtime.grammar.walks import allowed, random_regex, walk
from tests.runtime.tokenizers import byte_level

BEFORE = [" the", ' "', "\\", "{{", "a\tb\n", "/#", "\x00\x7f", "\u017c\u00f3\u0142", "\U0001f44d"]


@pytest.fixture(scope="module")
def grammars() -> GrammarCompiler:
    tokenizer = byte_level()
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)


def escaped(text: str) -> str:
    return "".join(f"\\x{{{ord(letter):x}}}" for letter in text)


@pytest.mark.parametrize("before", BEFORE)
def test_it_is_the_pattern_behind_that_text(grammars: GrammarCompiler, before: str) -> None:
    rng = random.Random(before)
    for _ in range(12):
        regex = random_regex(rng)
        try:
            alone = grammars.start(Type("regex", regex))
        except GrammarError:
            continue
        after = grammars.compile(Type("regex", regex), before).start()
        one = grammars.start(Type("regex", f"{escaped(before)}({regex})"))
        for token in walk(one.copy(), rng, 8):
            assert allowed(after) == allowed(one)
            after.accept(token)
            one.accept(token)
        assert after.can_end == one.can_end
        text = grammars.start(Type("regex", regex))
        assert text.can_end == alone.can_end, "the type alone is kept apart"


def test_what_is_whole_is_asked_without_the_text_before(grammars: GrammarCompiler) -> None:
    after = grammars.compile(Type("regex", "ab*"), "the").start()
    assert after.matches("abb")
    assert not after.matches("theabb")
    assert after.copy().matches("a")


def test_every_kind(grammars: GrammarCompiler) -> None:
    sources = {
        "int": "",
        "float": "",
        "bool": "",
        "regex": "[a-c]+",
        "json": '{"enum": [1, "a", [true]]}',
        "grammar": 'start: "x" | "(" start ")"\n',
        "choice": '["yes", "no"]',
    }
    rng = random.Random(3)
    tokenizer = byte_level()
    for kind, source in sources.items():
        type = Type(kind, source)  # type: ignore[arg-type]
        for _ in range(5):
            after = grammars.compile(type, " the ").start()
            tokens = walk(after, rng, 40)
            text = b"".join(map(tokenizer.token_bytes, tokens)).decode()
            assert text.startswith(" the ") or " the ".startswith(text)
            if after.can_end:
                assert grammars.start(type).matches(text.removeprefix(" the "))


def test_a_wrong_type_says_so_as_ever(grammars: GrammarCompiler) -> None:
    for source in ("(", "[^\\s\\S]"):
        with pytest.raises(GrammarError) as alone:
            grammars.start(Type("regex", source))
        with pytest.raises(GrammarError) as after:
            grammars.compile(Type("regex", source), "the").start()
        assert str(after.value) == str(alone.value)
