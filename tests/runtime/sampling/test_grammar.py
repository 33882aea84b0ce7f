"""Masks in a batch: which logits a grammar leaves, and what ends a text."""

import math
import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ramet.params import SamplingParams
from ramet.runtime.errors import SamplingError
from ramet.runtime.grammar import Grammar, GrammarCompiler
from ramet.runtime.sampling import Sampler, SamplingRow
from ramet.runtime.sampling.processors import PROCESSORS, keep_to_grammar
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.types import Type
from tests.runtime.conftest import byte_backend
from tests.runtime.grammar.walks import allowed, random_regex

VOCAB, EOS = 257, 256
BYTES = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=byte_backend(), eos_token="<eos>"))


@pytest.fixture(scope="module")
def grammars() -> Iterator[GrammarCompiler]:
    made = GrammarCompiler(BYTES, VOCAB, {EOS})
    yield made
    made.close()


def begun(grammars: GrammarCompiler, pattern: str, text: bytes = b"") -> Grammar:
    grammar = grammars.start(Type("regex", pattern))
    for token in ids(text):
        grammar.accept(token)
    return grammar


def ids(text: bytes) -> list[int]:
    return BYTES.encode([Piece(text.decode())], start=False)


def row(grammar: Grammar | None, **params: object) -> SamplingRow:
    """One that has tried without the grammar's mask, if it may, and now gets that."""
    made = SamplingParams(**params)  # type: ignore[arg-type]
    row = SamplingRow(made, key=1, vocab_size=VOCAB, eos_ids={EOS}, grammar=grammar)
    row.attempt = 1
    return row


def flat(seed: int, rows: int = 1) -> Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))


def left(logits: Tensor) -> list[int]:
    return (logits > -math.inf).nonzero().flatten().tolist()


def test_only_what_the_grammar_allows_is_left(grammars: GrammarCompiler) -> None:
    rng = random.Random(4)
    some = [grammars.start(Type("regex", random_regex(rng) + "z")) for _ in range(12)]
    logits = flat(0, 24)
    before = logits.clone()
    keep_to_grammar(logits, [row(some[i // 2] if i % 2 else None) for i in range(24)])
    for i in range(0, 24, 2):
        assert torch.equal(logits[i], before[i])
        assert left(logits[i + 1]) == allowed(some[i // 2])
        inside = [token for token in allowed(some[i // 2]) if token != EOS]
        assert torch.equal(logits[i + 1, inside], before[i + 1, inside])


def test_a_row_gets_what_it_would_get_alone(grammars: GrammarCompiler) -> None:
    def rows() -> list[SamplingRow]:
        texts = [b"", b"a", b"ab", b"abc", b"abcd"]
        some = [row(begun(grammars, "[a-z]*", text), temperature=1.0) for text in texts]
        some += [row(begun(grammars, "[a-z]*", b"a" * i), beams=i % 2 + 1) for i in range(6)]
        return [*some, row(None, temperature=1.0), row(None)]

    logits = flat(1, 13)
    together = logits.clone()
    for process in PROCESSORS:
        process(together, rows())
    for i, each in enumerate(rows()):
        alone = logits[i : i + 1].clone()
        for process in PROCESSORS:
            process(alone, [each])
        assert torch.equal(alone[0], together[i])


def test_greedily_a_text_ends_where_the_model_would_leave_its_grammar(
    grammars: GrammarCompiler,
) -> None:
    (one, dot) = ids(b"1.")
    for outside, drawn in ((3.0, EOS), (1.0, one)):
        logits = torch.zeros(1, VOCAB)
        logits[0, one], logits[0, dot] = 2.0, outside
        grammar = begun(grammars, "[0-9]+", b"4")
        (draw,) = Sampler().sample(logits, [row(grammar)], [0])
        assert draw.token == drawn


def test_where_it_cannot_end_leaving_is_no_way_out(grammars: GrammarCompiler) -> None:
    (one, dot) = ids(b"1.")
    logits = torch.zeros(1, VOCAB)
    logits[0, one], logits[0, dot], logits[0, EOS] = 2.0, 9.0, 8.0
    (draw,) = Sampler().sample(logits, [row(begun(grammars, "[0-9]{2,}", b"4"))], [0])
    assert draw.token == one


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_the_end_has_the_mass_of_all_that_is_outside(
    grammars: GrammarCompiler, temperature: float
) -> None:
    logits = flat(2)
    free = (logits / temperature).softmax(-1)[0]
    inside = ids(b"0123456789")
    rows = [row(begun(grammars, "[0-9]+", b"4"), temperature=temperature)]
    for process in PROCESSORS:
        process(logits, rows)
    kept = logits.softmax(-1)[0]
    torch.testing.assert_close(kept[inside], free[inside])
    torch.testing.assert_close(kept[EOS], 1 - free[inside].sum())


def test_a_beam_weighs_the_end_at_temperature_one(grammars: GrammarCompiler) -> None:
    logits = flat(8).log_softmax(-1)
    own = logits.clone()
    inside = ids(b"0123456789")
    keep_to_grammar(logits, [row(begun(grammars, "[0-9]+", b"4"), beams=4)])
    assert torch.equal(logits[0, inside], own[0, inside])
    outside = 1 - own[0, inside].exp().sum()
    torch.testing.assert_close(logits[0, EOS], outside.log())


def test_what_ties_with_the_best_outside_is_no_wish_to_leave(grammars: GrammarCompiler) -> None:
    (one, dot, a) = ids(b"1.a")
    logits = torch.zeros(1, VOCAB)
    logits[0, one] = logits[0, dot] = logits[0, a] = 2.0
    keep_to_grammar(logits, [row(begun(grammars, "[0-9]+", b"4"))])
    assert logits[0].argmax() == one
    assert logits[0, EOS] == 0


def test_a_row_without_numbers_spoils_no_other(grammars: GrammarCompiler) -> None:
    for params in ({}, {"temperature": 1.0}, {"beams": 2}):
        logits = flat(9, 3)
        logits[1] = math.nan
        alone = logits[2:].clone()
        rows = [row(begun(grammars, "[a-z]*", b"a" * i), **params) for i in range(3)]
        keep_to_grammar(alone, [row(begun(grammars, "[a-z]*", b"aa"), **params)])
        keep_to_grammar(logits, rows)
        assert torch.equal(logits[2:], alone)
        assert left(logits[0]) == left(logits[2])


@pytest.mark.parametrize("params", [{"ignore_eos": True}, {"min_tokens": 4}])
def test_what_may_not_end_goes_on_within(
    grammars: GrammarCompiler, params: dict[str, object]
) -> None:
    logits = flat(3)
    keep_to_grammar(logits, [row(begun(grammars, "a+", b"a"), **params)])
    assert left(logits[0]) == ids(b"a")


def test_least_tokens_make_no_dead_end(grammars: GrammarCompiler) -> None:
    """What is forced may be a stop token, and what can only end does."""
    (a,) = ids(b"a")
    logits = flat(4, 2)
    rows = [
        row(begun(grammars, "ab"), min_tokens=9, stop_tokens=[a]),
        row(begun(grammars, "a", b"a"), min_tokens=9, ignore_eos=True),
    ]
    for process in PROCESSORS:
        process(logits, rows)
    assert left(logits[0]) == [a]
    assert left(logits[1]) == [EOS]


def test_allowed_tokens_may_leave_nothing(grammars: GrammarCompiler) -> None:
    (b,) = ids(b"b")
    rows = [row(grammar, allowed_tokens=[b, 7]) for grammar in (begun(grammars, "a"), None)]
    first, second = Sampler().sample(flat(5, 2), rows, [0, 0])
    assert isinstance(first.error, SamplingError)
    assert "the type" in str(first.error)
    assert second.token in (b, 7)


def test_an_end_that_is_not_allowed_is_no_way_out(grammars: GrammarCompiler) -> None:
    (one, dot) = ids(b"1.")
    logits = torch.zeros(1, VOCAB)
    logits[0, one], logits[0, dot] = 2.0, 9.0
    grammar = begun(grammars, "[0-9]+", b"4")
    (draw,) = Sampler().sample(logits, [row(grammar, allowed_tokens=[one, dot])], [0])
    assert draw.token == one


def test_a_bias_is_heard_within_the_grammar(grammars: GrammarCompiler) -> None:
    _, b, z = ids(b"abz")
    rows = [row(begun(grammars, "[ab]"), logit_bias={b: 50.0, z: 90.0})]
    (draw,) = Sampler().sample(flat(6), rows, [0])
    assert draw.token == b


def test_a_row_with_a_grammar_is_not_plain(grammars: GrammarCompiler) -> None:
    assert row(None).plain
    assert not row(begun(grammars, "a")).plain


def test_a_fork_has_a_grammar_of_its_own(grammars: GrammarCompiler) -> None:
    one = row(begun(grammars, "ab"))
    other = one.fork(2)
    assert one.grammar is not None
    assert other.grammar is not None
    one.grammar.accept(ids(b"a")[0])
    assert allowed(other.grammar) == ids(b"a")
    assert allowed(one.grammar) == ids(b"b")


def test_logprobs_are_the_models_own(grammars: GrammarCompiler) -> None:
    logits = flat(7)
    own = logits.log_softmax(-1)[0]
    (draw,) = Sampler().sample(logits, [row(begun(grammars, "a"), logprobs=0)], [0])
    assert draw.logprob == pytest.approx(float(own[ids(b"a")[0]]))
