"""Encoding equals the tokenizer's own, but no text of a person becomes a control token."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer as Backend,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from ramet.runtime.cuts import Cuts
from ramet.runtime.errors import ModelError, PromptError
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.tokenizers import (
    byte_level,
    own_ids,
    random_cuts,
    random_text,
    sentencepiece,
    smollm2,
    token_id,
    wordpiece,
    wrap,
)

KINDS: dict[str, Callable[[], Tokenizer]] = {
    "smollm2": smollm2,
    "byte-level": byte_level,
    "first": lambda: sentencepiece("first"),
    "always": lambda: sentencepiece("always"),
    "legacy": lambda: sentencepiece("legacy"),
}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


def plain(*texts: str) -> list[Piece]:
    return [Piece(text) for text in texts]


def test_pieces_of_text_are_encoded_as_one(tokenizer: Tokenizer) -> None:
    rng = random.Random(1)
    for _ in range(400):
        text = random_text(rng)
        assert tokenizer.encode(plain(*random_cuts(rng, text)), start=True) == own_ids(
            tokenizer, text, bos=True
        )


WORDS = [
    "The",
    " quick",
    " 12 345",
    "\n\n",
    "  ",
    " naïve",
    "'s",
    "'",
    " e\u0301",
    " \u0301",
    "…",
    " 漢字",
]


@pytest.mark.parametrize("kind", [*KINDS, "qwen"])
def test_endings_are_encoded_with_the_text_before_them(kind: str) -> None:
    tokenizer = qwen() if kind == "qwen" else KINDS[kind]()
    cut_at_all = 0
    rng = random.Random(2)
    for start in (True, False) * 150:
        text = "".join(rng.choices(WORDS, k=rng.randrange(30)))
        text += random_text(rng) if rng.random() < 0.5 else ""
        pieces = plain(*random_cuts(rng, text))
        endings = [random_text(rng, 5), "", *rng.choices(WORDS, k=3)]
        expected = [tokenizer.encode([*pieces, Piece(each)], start=start) for each in endings]
        assert list(tokenizer.encode_each(pieces, endings, start=start)) == expected
        cut_at_all += tokenizer._cuts.last(text) > 0
    assert (cut_at_all > 100) == (kind in ("smollm2", "byte-level", "qwen"))


@pytest.mark.parametrize("added", ["<a b>", "the", AddedToken("<ab>", rstrip=True)])
def test_no_cut_where_an_added_token_may_take_it(added: str | AddedToken) -> None:
    backend = Backend(
        byte_level()._backend.__class__.from_str(byte_level()._backend.to_str()).model
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    text = "one two three <ab> four five six seven"
    assert Cuts(backend).last(text) > 0
    backend.add_tokens([added])
    assert Cuts(backend).last(text) == 0


@pytest.mark.parametrize(
    ("pattern", "certain"),
    [
        (r"\p{L}+|\s+(?!\S)|\s+", True),
        (r"[^\s]+|\s+", True),
        (r"[^ ]+(?=.*!)|\S+|\s+", False),
        (r"(?<=a) \S+|\S+|\s+", False),
        (r"\b\w+|\W+", False),
        (r"^\w+|\w+|\W+", False),
    ],
)
def test_cuts_only_where_a_pattern_looks_at_nothing_far(pattern: str, certain: bool) -> None:
    backend = Backend.from_str(byte_level(None)._backend.to_str())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, plain])
    assert (Cuts(backend).last("one two three four five six") > 0) == certain
    spaced = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), spaced])
    assert Cuts(backend).last("one two three four five six") == 0


def qwen() -> Tokenizer:
    """Qwen 2's way to split text: composed, and by a regular expression of its own."""
    backend = Backend.from_str(byte_level()._backend.to_str())
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return wrap(backend, None, eos_token="<|endoftext|>")


def test_templates_and_text_together_are_encoded_as_the_tokenizer_would(
    tokenizer: Tokenizer,
) -> None:
    rng = random.Random(2)
    names = sorted(tokenizer.hf.all_special_tokens)
    for _ in range(400):
        pieces = [Piece(rng.choice(names), control=True)]
        for _ in range(rng.randrange(4)):
            pieces += plain(*random_cuts(rng, random_text(rng)))
            header = rng.choice(["", "user\n", " "])
            pieces.append(Piece(f"{header}{rng.choice(names)}x", control=True))
        text = "".join(piece.text for piece in pieces)
        assert tokenizer.encode(pieces, start=True) == own_ids(tokenizer, text)


def test_text_that_spells_control_tokens_stays_text(tokenizer: Tokenizer) -> None:
    rng = random.Random(3)
    names = sorted(tokenizer.hf.all_special_tokens)
    for _ in range(200):
        text = "".join(random_text(rng, 4) + rng.choice(names) for _ in range(3))
        ids = tokenizer.encode(plain(*random_cuts(rng, text)), start=False)
        assert tokenizer.control_ids.isdisjoint(ids)
        assert tokenizer.decode(ids) == text


def test_a_control_token_is_never_joined_from_text_and_template() -> None:
    tokenizer = byte_level()
    pieces = [Piece("<|im_", control=True), Piece("start|>"), Piece("<|im_end|>", control=True)]
    ids = tokenizer.encode(pieces, start=True)
    assert [token for token in ids if token in tokenizer.control_ids] == [ids[-1]]


def test_a_control_token_may_be_split_over_template_pieces() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode([Piece("<|im_", True), Piece(""), Piece("start|>", True)], start=True)
    assert tokenizer.hf.convert_ids_to_tokens(ids) == ["<|im_start|>"]


def test_a_vocabulary_entry_that_is_a_control_tokens_name_is_not_reached_by_text() -> None:
    """With merges for all of `<s>`, the model's own vocabulary leads from text to a control id."""
    names = ["<s>", "<unk>", "▁", "<", "s", ">", "s>", "a"]
    vocab = {name: index for index, name in enumerate(names)}
    model = models.BPE(vocab=vocab, merges=[("s", ">"), ("<", "s>")], unk_token="<unk>")
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    backend.add_special_tokens(["<s>", "<unk>"])
    tokenizer = wrap(backend, None, bos_token="<s>", unk_token="<unk>")
    ids = tokenizer.encode(plain("a<s>a<s>"), start=False)
    assert tokenizer.control_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == "a<s>a<s>"


def test_added_tokens_that_are_no_control_tokens_are_vocabulary() -> None:
    tokenizer = byte_level()
    assert tokenizer.encode(plain("a<tool>b"), start=True) == own_ids(tokenizer, "a<tool>b")
    assert tokenizer.decode(own_ids(tokenizer, "a<tool>b")) == "a<tool>b"


def test_an_eos_from_the_models_config_is_a_control_token() -> None:
    tool, end = (token_id(byte_level(), name) for name in ("<tool>", "<|im_end|>"))
    tokenizer = Tokenizer(byte_level().hf, eos_ids=[tool])
    assert tokenizer.eos_ids == {end, tool}
    assert tool not in tokenizer.encode(plain("<tool>"), start=True)
    assert tokenizer.encode([Piece("<tool>", control=True)], start=True) == [tool]


@pytest.mark.parametrize("habit", ["first", "always", "legacy"])
def test_text_that_goes_on_gets_no_prefix_space(habit: str) -> None:
    tokenizer = sentencepiece(habit)
    for text in ("bread", " bread", "\nbread", "é", "  x"):
        ids = tokenizer.encode(plain(text), start=False)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_a_context_opens_with_bos_unless_a_template_opens_it() -> None:
    tokenizer = sentencepiece("first")
    bos = token_id(tokenizer, "<s>")
    assert tokenizer.encode([], start=True) == [bos]
    assert tokenizer.encode(plain("a"), start=True)[0] == bos
    assert tokenizer.encode(plain("a"), start=False)[0] != bos
    assert tokenizer.encode([Piece("<s>a", True)], start=True).count(bos) == 1
    assert bos not in tokenizer.encode([Piece("[INST] a", True)], start=True)
    assert byte_level().encode([], start=True) == []


def test_control_tokens_that_strip_take_the_space_beside_them() -> None:
    hf = byte_level().hf
    backend = Backend.from_str(hf.backend_tokenizer.to_str())
    backend.add_special_tokens([AddedToken("<|end|>", rstrip=True, lstrip=True, special=True)])
    tokenizer = wrap(backend, None)
    for before, after in ((" ", "\n x"), ("a \n", "\u2003b"), ("", " "), (" ", "")):
        pieces = [Piece("u", True), Piece(before), Piece("<|end|>", True), Piece(after)]
        text = f"u{before}<|end|>{after}"
        assert tokenizer.encode(pieces, start=False) == own_ids(tokenizer, text, bos=True)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "ok \ud83d"])
def test_a_lone_surrogate_is_an_error_that_says_where(text: str) -> None:
    with pytest.raises(PromptError, match=r"lone surrogate U\+D"):
        byte_level().encode(plain("fine", text), start=True)


def test_decode_equals_the_tokenizers_own(tokenizer: Tokenizer) -> None:
    rng = random.Random(4)
    for _ in range(400):
        text = random_text(rng)
        ids = own_ids(tokenizer, text, bos=True)
        assert tokenizer.decode(ids, start=True) == tokenizer.hf.decode(
            ids, skip_special_tokens=True
        )


def test_decode_of_arbitrary_ids_of_bytes_equals_the_tokenizers_own() -> None:
    rng = random.Random(5)
    for tokenizer in (smollm2(), byte_level()):
        for _ in range(400):
            ids = [rng.randrange(tokenizer.vocab_size) for _ in range(rng.randrange(12))]
            assert tokenizer.decode(ids) == tokenizer.hf.decode(ids, skip_special_tokens=True)


def test_every_token_has_its_bytes() -> None:
    tokenizer = sentencepiece("first")
    assert tokenizer.token_bytes(token_id(tokenizer, "<0xE2>")) == b"\xe2"
    assert tokenizer.token_bytes(token_id(tokenizer, "▁the")) == b" the"
    assert tokenizer.token_bytes(token_id(tokenizer, "<s>")) == b"<s>"
    bytes_ = {byte_level().token_bytes(token) for token in range(byte_level().vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= bytes_


def test_ids_outside_the_vocabulary_have_no_text(tokenizer: Tokenizer) -> None:
    for token in (-1, tokenizer.vocab_size, 2**40):
        assert tokenizer.token_bytes(token) == b""
        assert tokenizer.decode([token]) == ""


def test_a_decoder_without_exact_bytes_decodes_all_the_same() -> None:
    tokenizer = wordpiece()
    ids = own_ids(tokenizer, "the quick brown")
    assert not tokenizer.exact_bytes
    assert tokenizer.decode([*ids, 10**6]) == "the quick brown"
    assert tokenizer.token_bytes(ids[0]).decode() == tokenizer.hf.convert_ids_to_tokens(ids[0])


def test_long_text_is_encoded_and_not_kept() -> None:
    tokenizer = byte_level()
    text = "the dog " * 2000
    assert tokenizer.encode(plain(text), start=True) == own_ids(tokenizer, text, bos=True)
    assert tokenizer._cached_run.cache_info().currsize <= 4096


def test_the_given_tokenizer_is_not_changed() -> None:
    hf = byte_level().hf
    before = hf.backend_tokenizer.to_str()
    Tokenizer(hf, eos_ids=[5]).encode(plain("<|im_start|>"), start=True)
    assert hf.backend_tokenizer.to_str() == before
    assert not hf.backend_tokenizer.encode_special_tokens


def test_a_directory_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer can be read"):
        Tokenizer.load(tmp_path)


def test_a_saved_tokenizer_loads(tmp_path: Path) -> None:
    byte_level().hf.save_pretrained(tmp_path)
    loaded = Tokenizer.load(tmp_path, eos_ids=[7])
    assert loaded.encode(plain("the dog"), start=True) == own_ids(byte_level(), "the dog")
    assert 7 in loaded.eos_ids
