"""Masks against brute force: small vocabularies, and a matcher that is asked for every token."""

import random
import re
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

import pytest
import regex

from ramet.runtime.errors import GrammarError, PromptError
from ramet.runtime.grammar import Grammar, GrammarCompiler
from ramet.types import Type
from tests.runtime.grammar.walks import allowed

LETTERS = "abc1-"


class Words:
    """A tokenizer of a few short strings; it has all letters, and one end of text."""

    exact_bytes = True

    def __init__(self, rng: random.Random) -> None:
        lengths = [rng.choice([2, 2, 3, 4]) for _ in range(rng.randint(0, 30))]
        words = {"".join(rng.choices(LETTERS, k=length)) for length in lengths}
        self.words = [*LETTERS, *sorted(words)]
        rng.shuffle(self.words)
        self.end = rng.randrange(len(self.words) + 1)
        self.words.insert(self.end, "")
        self.control_ids = {self.end}

    def token_bytes(self, token: int) -> bytes:
        return self.words[token].encode()

    def encode(self, pieces: Sequence[Any], *, start: bool) -> list[int]:
        raise PromptError("the grammar engine writes what is certain its own way")


def random_pattern(rng: random.Random, depth: int = 3) -> str:
    match rng.randrange(7 if depth else 2):
        case 0:
            return re.escape("".join(rng.choices(LETTERS, k=rng.randint(1, 4))))
        case 1:
            return rng.choice(["[ab]", "[^a]", ".", "[a-c]", r"\d", "[1-]"])
        case 2 | 3:
            return "".join(random_pattern(rng, depth - 1) for _ in range(rng.randint(2, 3)))
        case 4:
            return f"(?:{random_pattern(rng, depth - 1)}|{random_pattern(rng, depth - 1)})"
        case _:
            count = rng.choice(["*", "+", "?", "{2}", "{0,3}", "{2,}"])
            return f"(?:{random_pattern(rng, depth - 1)}){count}"


def leads_on(pattern: str, text: str) -> bool:
    return regex.fullmatch(pattern, text, partial=True) is not None


def certain(pattern: str, text: str) -> str:
    """What every whole text goes on with, a letter at a time; of ours and of others."""
    found = ""
    while not re.fullmatch(pattern, text + found) and len(found) < 40:
        ways = [c for c in (*LETTERS, "\u2603", "2", "z") if leads_on(pattern, text + found + c)]
        if len(ways) != 1 or ways[0] not in LETTERS:
            break
        found += ways[0]
    return found


def hold(rng: random.Random, states: int) -> int:
    """Compare that many states of one pattern and one vocabulary; how many there were."""
    words = Words(rng)
    pattern = random_pattern(rng)
    grammars: Any = GrammarCompiler(words, len(words.words), {words.end})  # type: ignore[arg-type]
    with closing(grammars), suppress(GrammarError):
        begun = grammars.start(Type("regex", pattern))
        return _hold(rng, words, pattern, begun, states)
    return 0


def _hold(rng: random.Random, words: Words, pattern: str, begun: Grammar, states: int) -> int:
    seen = 0
    while seen < states:
        grammar, text = begun.copy(), ""
        while seen < states and not grammar.finished and len(text) < 14:
            mask, sure = allowed(grammar), certain(pattern, text)
            expected = [
                token
                for token, word in enumerate(words.words)
                if (word and leads_on(pattern, text + word))
                or (not word and re.fullmatch(pattern, text))
            ]
            if sure:
                assert mask, (pattern, text, words.words)
                assert set(mask) <= set(expected), (pattern, text, words.words)
            else:
                assert mask == expected, (pattern, text, words.words)
            assert (words.end in mask) == grammar.can_end == bool(re.fullmatch(pattern, text))
            seen += 1
            ways = [token for token in mask if token != words.end]
            token = rng.choice(ways)
            text += words.words[token]
            grammar.accept(token)
        assert leads_on(pattern, text)
        if grammar.finished:
            assert re.fullmatch(pattern, text), (pattern, text)
    return seen


def test_masks_equal_brute_force() -> None:
    rng = random.Random(20)
    assert sum(hold(rng, 12) for _ in range(60)) > 500


@pytest.mark.slow
def test_masks_equal_brute_force_at_length() -> None:
    rng = random.Random(21)
    pairs = 0
    while pairs < 5_000:
        pairs += hold(rng, 12)
