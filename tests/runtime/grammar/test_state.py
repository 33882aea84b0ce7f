"""Every text that the masks allow is one of the type, and every mask is exact."""

import json
import random
import re
from collections.abc import Callable

import jsonschema
import pytest
import regex
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from ramet.runtime.errors import ConstraintError
from ramet.runtime.grammar import Grammar, GrammarCompiler
from ramet.runtime.tokenizer import Tokenizer
from ramet.types import Type, json_type, value_of
from tests.runtime.conftest import byte_backend
from tests.runtime.grammar.walks import allowed, random_regex, random_schema, walk
from tests.runtime.tokenizers import byte_level, sentencepiece, smollm2

PADDING = 37  # tokens that only the model's output layer has
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "sentencepiece": lambda: sentencepiece("always"),
    "legacy": lambda: sentencepiece("legacy"),
    "smollm2": smollm2,
}


def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, tokenizer.vocab_size + PADDING, tokenizer.eos_ids)


@pytest.fixture(scope="module", params=TOKENIZERS)
def both(request: pytest.FixtureRequest) -> tuple[Tokenizer, GrammarCompiler]:
    tokenizer = TOKENIZERS[request.param]()
    return tokenizer, compiler(tokenizer)


def spelled(tokenizer: Tokenizer, tokens: list[int]) -> str:
    return b"".join(map(tokenizer.token_bytes, tokens)).decode("utf-8", "ignore")


def test_texts_of_random_patterns_match(both: tuple[Tokenizer, GrammarCompiler]) -> None:
    tokenizer, grammars = both
    rng = random.Random(5)
    whole = 0
    for _ in range(120):
        pattern = random_regex(rng)
        grammar = grammars.start(Type("regex", pattern))
        text = spelled(tokenizer, walk(grammar, rng, 30))
        assert regex.fullmatch(pattern, text, partial=True), (pattern, text)
        assert not grammar.can_end or re.fullmatch(pattern, text), (pattern, text)
        assert grammar.matches(text) == bool(re.fullmatch(pattern, text)), (pattern, text)
        whole += grammar.can_end
    assert whole > 90


def test_texts_of_random_schemas_are_valid(both: tuple[Tokenizer, GrammarCompiler]) -> None:
    tokenizer, grammars = both
    rng = random.Random(6)
    whole = 0
    for _ in range(120):
        schema = random_schema(rng)
        grammar = grammars.start(json_type(schema))
        text = spelled(tokenizer, walk(grammar, rng, 60))
        if grammar.can_end:
            jsonschema.validate(json.loads(text), schema)
            whole += 1
        assert not re.search(r"\n|[,:]  |[{\[] ", re.sub(r'"([^"\\]|\\.)*"', '""', text)), text
    assert whole > 90


@pytest.mark.slow
def test_a_thousand_patterns() -> None:
    """Every text that ended is one of its pattern's."""
    tokenizer = smollm2()
    grammars = compiler(tokenizer)
    rng = random.Random(15)
    whole = 0
    while whole < 1_000:
        pattern = random_regex(rng)
        grammar = grammars.start(Type("regex", pattern))
        text = spelled(tokenizer, walk(grammar, rng, 200))
        if grammar.can_end:
            assert re.fullmatch(pattern, text), (pattern, text)
            whole += 1


@pytest.mark.slow
def test_a_thousand_schemas() -> None:
    """Every text that ended is valid."""
    tokenizer = smollm2()
    grammars = compiler(tokenizer)
    rng = random.Random(16)
    whole = 0
    while whole < 1_000:
        schema = random_schema(rng)
        grammar = grammars.start(json_type(schema))
        text = spelled(tokenizer, walk(grammar, rng, 400))
        if grammar.can_end:
            jsonschema.validate(json.loads(text), schema)
            whole += 1


def test_numbers_and_truth_values_are_read_back(both: tuple[Tokenizer, GrammarCompiler]) -> None:
    tokenizer, grammars = both
    rng = random.Random(7)
    kinds: dict[str, tuple[Type, type]] = {
        "int": (Type("int"), int),
        "float": (Type("float"), float),
        "bool": (Type("bool"), bool),
    }
    for kind, python in kinds.values():
        for _ in range(40):
            grammar = grammars.start(kind)
            text = spelled(tokenizer, walk(grammar, rng, 60, ending=0.05))
            value = value_of(kind, text)
            assert isinstance(value, python)
            assert text == text.strip()
            assert len(text) <= 45
            assert kind.kind != "int" or abs(int(text)) < 10**18


def test_a_lark_grammar(both: tuple[Tokenizer, GrammarCompiler]) -> None:
    tokenizer, grammars = both
    rng = random.Random(8)
    source = 'start: sum\nsum: term ("+" term)*\nterm: NUMBER | "(" sum ")"\nNUMBER: /[0-9]{1,3}/\n'
    for _ in range(40):
        grammar = grammars.start(Type("grammar", source))
        text = spelled(tokenizer, walk(grammar, rng, 30))
        assert set(text) <= set("0123456789+()")
        if grammar.can_end:
            assert isinstance(eval(re.sub(r"\b0+(?=\d)", "", text)), int)


@pytest.mark.parametrize(
    "pattern", ["(ab|a)c*", "[a-c]{2,4}x?", "-?(0|[1-9][0-9]*)", "(a|ab)(c|bcd)"]
)
def test_masks_are_exact(byte_tokenizer: Tokenizer, pattern: str) -> None:
    """Where every token is a byte, none but the pattern narrows a mask."""
    rng = random.Random(9)
    grammars = GrammarCompiler(byte_tokenizer, 257, byte_tokenizer.eos_ids)
    known = {token: byte_tokenizer.token_bytes(token) for token in range(256)}
    for _ in range(30):
        grammar, text = grammars.start(Type("regex", pattern)), ""
        while not grammar.finished and len(text) < 12:
            expected = [
                token
                for token, data in known.items()
                if data.isascii() and regex.fullmatch(pattern, text + data.decode(), partial=True)
            ]
            ends = [256] if re.fullmatch(pattern, text) else []
            assert allowed(grammar) == expected + ends
            assert grammar.can_end == bool(ends)
            token = rng.choice(expected)
            text += known[token].decode()
            grammar.accept(token)
        assert grammar.can_end or len(text) == 12


def test_only_text_and_ends_are_allowed(both: tuple[Tokenizer, GrammarCompiler]) -> None:
    tokenizer, grammars = both
    grammar = grammars.start(Type("regex", "(?s).*"))
    found = set(allowed(grammar))
    assert found & tokenizer.control_ids == tokenizer.eos_ids == set(grammar.ends)
    assert max(found) < tokenizer.vocab_size
    for token in set(range(tokenizer.vocab_size)) - tokenizer.control_ids - found:
        with pytest.raises(UnicodeDecodeError, match=r"invalid start byte"):
            tokenizer.token_bytes(token).decode()


def test_tokens_of_the_same_bytes_are_all_allowed() -> None:
    tokenizer = sentencepiece("always")
    grammars = compiler(tokenizer)
    same = [t for t in range(tokenizer.vocab_size) if tokenizer.token_bytes(t) == b"a"]
    assert len(same) == 2  # "a" and <0x61>
    assert set(allowed(grammars.start(Type("regex", "[a-c]+")))) >= set(same)


def test_a_copy_goes_its_own_way(both: tuple[Tokenizer, GrammarCompiler]) -> None:
    _, grammars = both
    one = grammars.start(Type("regex", "[ab]{3}"))
    before = allowed(one)
    other = one.copy()
    walk(one, random.Random(1), 1)
    third = one.copy()
    after = allowed(one)
    walk(one, random.Random(2), 9)
    assert one.finished
    assert allowed(other) == before
    assert allowed(third) == after
    walk(third, random.Random(3), 9)
    assert third.finished


def test_the_same_grammar_twice_starts_anew(both: tuple[Tokenizer, GrammarCompiler]) -> None:
    _, grammars = both
    walk(grammars.start(Type("bool")), random.Random(0), 9)
    assert not grammars.start(Type("bool")).can_end


def test_a_token_outside_is_an_error(both: tuple[Tokenizer, GrammarCompiler]) -> None:
    tokenizer, grammars = both
    grammar = grammars.start(Type("regex", "a+"))
    (wrong,) = tokenizer.encode([], start=False) or [min(tokenizer.eos_ids) + 5]
    with pytest.raises(ConstraintError, match=r"regex 'a\+': after 1 tokens the text cannot go on"):
        grammar.accept(wrong)


def test_ends_only_where_there_are_any() -> None:
    """A model without an end of text ends a text that can only end, and no other."""
    tokenizer = byte_level()
    grammars = GrammarCompiler(tokenizer, tokenizer.vocab_size, ())
    grammar: Grammar = grammars.start(Type("regex", "ab?"))
    assert grammar.ends == []
    walk(grammar, random.Random(0), 1)
    assert grammar.can_end
    assert len(allowed(grammar)) == 1
    walk(grammar, random.Random(0), 1, ending=0)
    assert grammar.finished


def test_a_vocabulary_without_the_bytes_it_takes() -> None:
    """A model that has fewer tokens than its tokenizer cannot write everything."""
    tokenizer = byte_level()
    few = min(t for t in range(tokenizer.vocab_size) if tokenizer.token_bytes(t) == b"z")
    grammars = GrammarCompiler(tokenizer, few, tokenizer.eos_ids)
    grammar = grammars.start(Type("regex", "!z"))
    with pytest.raises(ConstraintError, match="no token leads on to a whole text"):
        walk(grammar, random.Random(0), 3)


def test_a_tokenizer_that_changes_what_it_reads() -> None:
    """Where it writes something else, the bytes of the tokens decide."""
    backend = byte_backend()
    backend.normalizer = normalizers.Lowercase()
    tokenizer = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>"))
    grammars = GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)
    tokens = walk(grammars.start(Type("regex", "ABC")), random.Random(0), 9)
    assert spelled(tokenizer, tokens) == "ABC"
