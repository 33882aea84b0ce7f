"""Deltas, joined, are the text of the ids in their context."""

import random
import time
from collections.abc import Callable

import pytest

from ramet.runtime.detokenizer import Detokenizer
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.tokenizers import (
    byte_level,
    own_ids,
    random_text,
    sentencepiece,
    smollm2,
    token_id,
    wordpiece,
)

KINDS: dict[str, Callable[[], Tokenizer]] = {
    "smollm2": smollm2,
    "byte-level": byte_level,
    "first": lambda: sentencepiece("first"),
    "always": lambda: sentencepiece("always"),
}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


def streamed(tokenizer: Tokenizer, ids: list[int], context: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer, context)
    return [*map(detokenizer.push, ids), detokenizer.flush()]


def generated_text(tokenizer: Tokenizer, context: list[int], ids: list[int]) -> str:
    """What the ids add to the finished text of the context, by decoding everything at once.

    If the last character of the context stays broken, it is the context's; if not, it is ours.
    """
    known = tokenizer.decode(context, start=True)
    whole = tokenizer.decode([*context, *ids], start=True)
    return whole[len(known) :] if whole.startswith(known) else whole[len(known) - 1 :]


def random_ids(rng: random.Random, tokenizer: Tokenizer) -> list[int]:
    """Text cut anywhere, or any ids at all, which are seldom valid UTF-8."""
    if rng.random() < 0.5:
        text = random_text(rng).replace("\ufffd", "")  # or half of one could not be told from any
        ids = own_ids(tokenizer, text)
        return ids[: rng.randrange(len(ids) + 1)]
    return [rng.randrange(-1, tokenizer.vocab_size + 1) for _ in range(rng.randrange(10))]


def test_deltas_joined_are_the_full_decode(tokenizer: Tokenizer) -> None:
    rng = random.Random(11)
    for _ in range(3000):
        context, ids = random_ids(rng, tokenizer), random_ids(rng, tokenizer)
        expected = generated_text(tokenizer, context, ids)
        assert "".join(streamed(tokenizer, ids, context)) == expected


def test_deltas_joined_are_the_text_that_was_encoded(tokenizer: Tokenizer) -> None:
    rng = random.Random(12)
    for _ in range(1000):
        text = random_text(rng)
        ids = own_ids(tokenizer, text)
        joined = "".join(streamed(tokenizer, ids, []))
        assert joined == tokenizer.hf.decode(ids, skip_special_tokens=True)
        assert joined == text or text.startswith(" ")  # a space there reads as the tokenizer's


def test_no_delta_holds_a_replacement_character_that_the_text_has_not(
    tokenizer: Tokenizer,
) -> None:
    rng = random.Random(13)
    for _ in range(500):
        text = random_text(rng).replace("\ufffd", "")
        ids = own_ids(tokenizer, text)
        assert "\ufffd" not in "".join(streamed(tokenizer, ids, []))


def byte_ids(tokenizer: Tokenizer, data: bytes) -> list[int]:
    ids = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size)}
    return [ids[bytes([byte])] for byte in data]


@pytest.mark.parametrize(
    ("context", "generated", "text"),
    [
        (b"secret \xe2\x82", b"\xac!", "€!"),  # the context's half becomes a whole
        (b"secret \xe2\x82", b"a", "a"),  # it stays broken, and the context's
        (b"secret \xf0\x9f", b"\x98", ""),  # unfinished at the end
        (b"secret \xf0\x9f", b"\x98a", "a"),
        (b"secret \xf0\x9f", b"", ""),
        (b"secret \xe2\x82", b"\xe2\x82\xac", "€"),
        (b"secret \xef\xbf", b"\xbd", "\ufffd"),  # U+FFFD itself is a character
        (b"secret \xff", b"a", "a"),
        (b"secret", b"\xf0\x9f\x98\x80", "😀"),
        (b"secret", b"\xf0\x9f\x98", "\ufffd"),  # the sequence ends inside a character
    ],
)
def test_a_context_that_ends_in_half_a_character_leaks_nothing(
    context: bytes, generated: bytes, text: str
) -> None:
    for tokenizer in (byte_level(), sentencepiece("first")):
        start = tokenizer.encode([], start=True)
        ids = [*start, *byte_ids(tokenizer, context)]
        deltas = streamed(tokenizer, byte_ids(tokenizer, generated), ids)
        assert "".join(deltas) == text


def test_half_a_character_is_held_until_it_is_whole() -> None:
    tokenizer = byte_level()
    ids = byte_ids(tokenizer, "a😀b".encode())
    assert streamed(tokenizer, ids, []) == ["a", "", "", "", "😀", "b", ""]


def test_control_tokens_have_no_text(tokenizer: Tokenizer) -> None:
    control = sorted(tokenizer.control_ids)[0]
    ids = byte_ids(tokenizer, b"x\xc3")
    deltas = streamed(tokenizer, [control, *ids, control, *byte_ids(tokenizer, b"\xa9")], ids[:1])
    assert deltas == ["", "x", "", "", "é", ""]


def test_a_space_that_opens_the_context_is_the_tokenizers() -> None:
    tokenizer = sentencepiece("first")
    the = token_id(tokenizer, "▁the")
    bos = token_id(tokenizer, "<s>")
    assert streamed(tokenizer, [the, the], [bos]) == ["the", " the", ""]
    assert streamed(tokenizer, [the], [bos, the]) == [" the", ""]


def test_a_copy_goes_its_own_way() -> None:
    tokenizer = byte_level()
    first = Detokenizer(tokenizer)
    first.push(byte_ids(tokenizer, b"\xc3")[0])
    second = first.copy()
    assert first.push(byte_ids(tokenizer, b"\xa9")[0]) == "é"
    assert second.push(byte_ids(tokenizer, b"\xb6")[0]) == "ö"


def test_a_decoder_without_exact_bytes_streams_all_the_same() -> None:
    tokenizer, rng = wordpiece(), random.Random(14)
    for _ in range(300):
        size = rng.randrange(12)
        ids = [rng.randrange(tokenizer.vocab_size) for _ in range(2 * size)]
        expected = generated_text(tokenizer, ids[:size], ids[size:])
        assert "".join(streamed(tokenizer, ids[size:], ids[:size])) == expected


def test_a_copy_of_a_window_goes_its_own_way() -> None:
    tokenizer = wordpiece()
    ids = own_ids(tokenizer, "the quick brown fox")
    first = Detokenizer(tokenizer, ids[:1])
    second = first.copy()
    assert "".join(map(first.push, ids[1:])) == "".join(map(second.push, ids[1:]))


def test_a_token_costs_the_same_however_long_the_text_is() -> None:
    for tokenizer in (byte_level(), wordpiece()):
        ids = own_ids(tokenizer, "the dog " * 4000)
        detokenizer = Detokenizer(tokenizer, ids)
        third = len(ids) // 3
        times = []
        for part in (ids[:third], ids[-third:]):
            begin = time.process_time()
            for token in part:
                detokenizer.push(token)
            times.append(time.process_time() - begin)
        assert times[1] < 20 * times[0]
