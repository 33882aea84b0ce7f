"""What is taken back, and what spells it again, against a search of the whole vocabulary."""

import random
import time

import pytest

from ramet.runtime.errors import RequestError
from ramet.runtime.sampling import Spellings
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.tokenizers import (
    CORPUS,
    byte_level,
    random_text,
    sentencepiece,
    smollm2,
    wordpiece,
)

KINDS = ["byte_level", "first", "always", "legacy"]


def tokenizer_of(kind: str) -> Tokenizer:
    return byte_level() if kind == "byte_level" else sentencepiece(kind)


def spellings_of(tokenizer: Tokenizer) -> Spellings:
    return Spellings(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)


def vocabulary(tokenizer: Tokenizer) -> dict[int, bytes]:
    """Every token that stands for some text."""
    tokens = filter(tokenizer.is_text, range(tokenizer.vocab_size))
    return {token: data for token in tokens if (data := tokenizer.token_bytes(token))}


def spells(words: set[bytes], left: bytes) -> bool:
    """Whether some of the words, one after the other, begin with these bytes."""
    if not left or any(word.startswith(left) for word in words):
        return True
    return any(left.startswith(word) and spells(words, left[len(word) :]) for word in words)


def by_search(tokens: dict[int, bytes], left: bytes) -> set[int]:
    """Every token that can come next."""
    words = set(tokens.values())
    return {
        token
        for token, data in tokens.items()
        if data.startswith(left) or (left.startswith(data) and spells(words, left[len(data) :]))
    }


def taken_by_search(tokenizer: Tokenizer, ids: list[int], text: str) -> int:
    """How many tokens are taken back."""
    words, best = vocabulary(tokenizer), 0
    for count in range(1, len(ids)):
        data = b"".join(words.get(token, b"\xff") for token in ids[-count:])
        stays = any(token in words for token in ids[:-count])
        if not text.encode().endswith(data) or not (stays or not tokenizer.strips_first_space):
            break
        whole = data.decode("utf-8", "replace").encode() == data
        if whole and any(word != data and word.startswith(data) for word in words.values()):
            best = count
    return best


def prompts(rng: random.Random, count: int) -> list[str]:
    """Words that break off, and text of every plane."""
    made = [random_text(rng) for _ in range(count // 2)]
    for _ in range(count - len(made)):
        sentence = rng.choice(CORPUS)
        begin = rng.randrange(len(sentence))
        made.append(sentence[begin : begin + rng.randint(1, 20)])
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_back(kind: str) -> None:
    tokenizer, rng = tokenizer_of(kind), random.Random(7)
    spellings, healed = spellings_of(tokenizer), 0
    for text in prompts(rng, 120):
        ids = tokenizer.encode([Piece(text)], start=True)
        found = spellings.heal(ids, 0, text)
        count = 0 if found is None else found.count
        assert count == taken_by_search(tokenizer, ids, text), repr(text)
        if found is not None:
            healed += 1
            assert text.endswith(found.text)
            assert found.left == b"".join(map(tokenizer.token_bytes, ids[-count:]))
            assert {*found.tokens.tolist()} == by_search(vocabulary(tokenizer), found.left)
    assert healed > 30


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_spell_it_comes_to_its_end(kind: str) -> None:
    tokenizer, rng = tokenizer_of(kind), random.Random(8)
    spellings, words = spellings_of(tokenizer), vocabulary(tokenizer)
    for text in ["the dough.", "é", "\U0001f44d\U0001f3fd", *prompts(rng, 60)]:
        ids = tokenizer.encode([Piece(" a" + text)], start=False)
        found = spellings.heal([ids[0], *ids], 0, " a" + text)
        drawn = b""
        while found is not None:
            assert len(found.tokens) == len({*found.tokens.tolist()})
            assert {*found.tokens.tolist()} == by_search(words, found.left)
            token = min(found.tokens.tolist(), key=lambda t: (len(words[t]), rng.random()))
            drawn += words[token]
            whole, found = found.text.encode(), found.after(token)
            assert drawn.startswith(whole) if found is None else whole.startswith(drawn)


def test_only_text_behind_what_was_there_and_never_all() -> None:
    tokenizer = byte_level()
    spellings = spellings_of(tokenizer)
    ids = tokenizer.encode([Piece("the dou")], start=True)

    found = spellings.heal(ids, 0, "the dou")
    assert found is not None
    assert spellings.heal(ids, len(ids), "the dou") is None
    assert spellings.heal(ids, 0, "") is None
    assert spellings.heal(ids, 0, "u") is None or len(tokenizer.token_bytes(ids[-1])) == 1
    assert spellings.heal(ids[-1:], 0, "the dou") is None, "there is nothing before it"
    assert spellings.heal([], 0, "") is None


def test_a_vocabulary_without_all_bytes_has_no_dead_end() -> None:
    """What begins the text and leaves something that no token spells is ruled out."""
    tokenizer = byte_level()
    words = vocabulary(tokenizer)
    single = {token for token, data in words.items() if len(data) == 1}
    spellings = Spellings(tokenizer, tokenizer.vocab_size, single)
    left = {token: data for token, data in words.items() if token not in single}
    assert {*spellings.spelling(b" the").tolist()} == by_search(left, b" the")
    assert {*spellings.spelling(b" brea").tolist()} == by_search(left, b" brea")


def test_control_tokens_and_ends_spell_nothing() -> None:
    tokenizer = byte_level()
    begin = Spellings(tokenizer, tokenizer.vocab_size, ()).spelling(b"<")
    assert not tokenizer.control_ids & {*begin.tolist()}
    assert any(tokenizer.token_bytes(token) == b"<tool>" for token in begin.tolist())


def test_a_model_with_fewer_tokens() -> None:
    tokenizer = byte_level()
    assert Spellings(tokenizer, 300, ()).spelling(b"t").max() < 300


def test_tokens_without_bytes_cannot_be_taken_back() -> None:
    tokenizer = wordpiece()
    with pytest.raises(RequestError, match="heal: the tokens of this model's tokenizer stand for"):
        Spellings(tokenizer, tokenizer.vocab_size, ()).heal([1, 2], 0, "ab")


def test_50000_tokens_take_no_search() -> None:
    tokenizer = smollm2()
    spellings = spellings_of(tokenizer)
    text = "def f():\n" + " " * 61
    ids = tokenizer.encode([Piece(text)], start=True)
    assert spellings.heal(ids, 0, text) is not None  # sorts the vocabulary
    begin = time.thread_time()
    for _ in range(20):
        assert len(spellings.spelling(b" ")) > 30_000
    assert (time.thread_time() - begin) / 20 < 0.002
    begin = time.thread_time()
    assert spellings.heal(ids, 0, text) is not None
    assert time.thread_time() - begin < 0.1
